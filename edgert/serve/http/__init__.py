"""The Inference Server's HTTP interface.

Where it answers otherwise than the Inference Server 2.51 does:

| what a client does | the Inference Server | here |
| --- | --- | --- |
| JSON that is malformed or has a wrong type in it | 500 | 400, the same text and the place |
| `data` that does not fill the shape | 500 | 400 |
| a whole number beyond its datatype, 1e40 as FP32 | 200, another number | 400 |
| an output too large for its place in shared memory | 500 | 400 |
| a shared memory object that cannot be opened | 500 | 400 |
| BYTES that are no UTF-8, asked for as JSON | 200, malformed JSON | 400 |
| a body that is not what Content-Encoding says | taken for an empty one | 400 |
| CUDA shared memory, tracing, `generate` | offered | 501, 501, 404 |
| Accept-Encoding: gzip | a compressed answer | one that is not |
| HEAD | 405 | as GET, without the body |
| `load` or `unload` of a model that is not there | 500 or 200 | 404 |
| more than `[serve.limits]` allows | no limits, or others | 408, 413, 431, 503, 504 |
"""
