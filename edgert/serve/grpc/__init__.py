"""The Inference Server's gRPC interface.

HTTP/2 is edgert's own (`transport`): on the fronts' one thread it takes a fraction of the time that the grpc
package takes on asyncio, and none of its threads.

Where it answers otherwise than the Inference Server 2.51 does:

| what a client does | the Inference Server | here |
| --- | --- | --- |
| bytes that are no message | INTERNAL | INVALID_ARGUMENT, the same text |
| more raw_input_contents than inputs need | OK | INVALID_ARGUMENT |
| a datatype that does not exist | "is '<invalid>'" | INVALID_ARGUMENT, "unknown datatype" |
| a whole number beyond its datatype in int_contents | OK, another number | INVALID_ARGUMENT |
| classification of text | the server ends | INVALID_ARGUMENT |
| an output too large for its place in shared memory | INTERNAL | INVALID_ARGUMENT |
| a shared memory object that cannot be opened | INTERNAL | INVALID_ARGUMENT |
| a configuration sent with a load that is wrong | INTERNAL | INVALID_ARGUMENT |
| a text sequence id of more than 128 bytes | UNIMPLEMENTED | INVALID_ARGUMENT |
| a model that is being loaded for the first time | NOT_FOUND | UNAVAILABLE |
| load of a model that is not there | INTERNAL | NOT_FOUND |
| load and unload where control is off | UNAVAILABLE | PERMISSION_DENIED |
| health of a model | SERVING, known or not | its own; NOT_FOUND where it is unknown |
| Watch | UNIMPLEMENTED | as grpc.health.v1 says |
| CUDA shared memory, tracing | offered | UNIMPLEMENTED; status and unregister answer |
| log_file, log_format | may be changed | UNIMPLEMENTED |
| more than `[serve.limits]` allows | no limits | UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED |
"""
