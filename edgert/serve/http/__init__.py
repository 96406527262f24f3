"""The Inference Server's HTTP interface.

Where it answers otherwise than the Inference Server 2.51 does, in requests for inferences:

| what a client does | the Inference Server | here |
| --- | --- | --- |
| JSON that is malformed or has a wrong type in it | 500 | 400, the same text and the place |
| `data` that does not fill the shape | 500 | 400 |
| a shape beyond all memory | the server ends | 400 |
| a whole number beyond its datatype, 1e40 as FP32 | 200, another number | 400 |
| BYTES that are no UTF-8, asked for as JSON | 200, malformed JSON | 400 |
| a body that is not what Content-Encoding says | taken for an empty one | 400 |
| JSON of more than 256 KiB beside `data`, or 512 KiB with NaN in it | 200 | 413 |
| `data` of more than 262,144 texts, or with empty lists among as many | 200 | 413 |
| a model that is being loaded | 404 | 503, and Retry-After |
| the text id of a sequence longer than 128 bytes | 501 | 400 |
| a version of more than 18 digits | 400 | 404 |

In the others:

| what a client does | the Inference Server | here |
| --- | --- | --- |
| `load` or `unload` of a model that is not there | 500 or 200 | 404 |
| `load` with a configuration, or files, that are wrong | 500, 400 for what shows in the engine | 400 |
| `load` of a model that is wrong in the store | 500, 400 for what shows in the engine | 500 |
| `load` or `unload` where `serve.mode` does not allow it | 503 | 501 |
| a shared memory object that cannot be opened | 500 | 400 |
| an output too large for its place in shared memory | 500 | 400 |
| CUDA shared memory, tracing that is not OFF, `generate` | offered | 501, 501, 404 |
| HEAD | 405 | as GET, without the body |

And what it does not have: 401 where `serve.token` is given and the request lacks it; 403 for control that is
off, for changes by web pages (`Origin`) and for shared memory from other machines; 408, 413, 431, 503 and 504
beyond `[serve.limits]`: shared memory that others may write is copied, and counts as a body does. Requests
that come while it stops are answered 503; each answer then says `Connection: close`.
"""
