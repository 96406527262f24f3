"""From a ModelInferRequest to the core's request."""

from __future__ import annotations

import time

import msgspec

from edgert.frames.request import InferRequest, Responder
from edgert.serve.core import InferenceCore
from edgert.serve.grpc.inputs import InputReader
from edgert.serve.grpc.parameters import read_parameters
from edgert.serve.grpc.places import read_outputs
from edgert.serve.grpc.response import ResponseWriter
from edgert.serve.grpc.versions import parse_version
from edgert.serve.grpc.wire import Cut, read_request
from edgert.serve.shared_memory import SharedMemory

INLINE_BYTES = 1 << 18


class Arrived(msgspec.Struct, frozen=True, eq=False):
    """A request, and how its responses are written."""

    request: InferRequest
    writer: ResponseWriter
    wants_empty_final: bool


def is_long(pieces: Cut) -> bool:
    """Say whether reading it would hold up the other clients: it has many typed elements or texts."""
    if pieces.raws is None:
        return len(pieces.head) > INLINE_BYTES
    return len(pieces.head) > INLINE_BYTES or (
        b"BYTES" in pieces.head and sum(map(len, pieces.raws)) > INLINE_BYTES
    )


def read_infer(
    pieces: Cut, responder: Responder, core: InferenceCore, shared_memory: SharedMemory | None
) -> Arrived:
    """Return what a client asks. The arrays are views of the message. Raises RequestError."""
    arrived_mono_ns = time.monotonic_ns()
    message, raws = read_request(pieces)
    parameters = read_parameters(message.parameters)
    wanted = read_outputs(message.outputs, shared_memory) if message.outputs else {}
    request = InferRequest(
        model=message.model_name,
        version=parse_version(message.model_version),
        id=message.id,
        inputs=InputReader(message, raws, shared_memory).read(),
        outputs=tuple(wanted),
        priority=parameters.priority,
        timeout_us=parameters.timeout_us,
        sequence=parameters.sequence,
        parameters=parameters.rest,
        responder=responder,
        arrived_mono_ns=arrived_mono_ns,
    )
    return Arrived(request, ResponseWriter(core, wanted), parameters.wants_empty_final)
