"""The first HTTP API of the Inference Server, `/api`, as its user guide 0.5 and client 1.11 have it.

A request's tensors come in the body one behind the other, and a header in protobuf's text form,
`NV-InferRequest`, says what they are; so do `NV-InferResponse` and the end of the body of an answer. Tensors
have no batch axis there: `batch_size` stands beside them.

Where it answers otherwise than the Inference Server 1.x does:

| what | the Inference Server | here |
| --- | --- | --- |
| an error's status | 400 | 400, 404, 500, 501 or 503; `NV-Status` says the same |
| live | as ready, unless `--strict-liveness=false` | whether it answers at all |
| `infer_stats` | by the requests' batch size | all requests under 0 |
| what the server refuses before it looks: a token, a size, control that is off | `NV-Status` | JSON |
| profiles, CUDA shared memory, statistics of the server's own requests | there | not offered |

Reading order:
    routes      paths → calls             schema, messages   the messages, from a table
    request     a header → a request      reply              what every answer carries
    response    a response → its answer   describe           status, index
"""
