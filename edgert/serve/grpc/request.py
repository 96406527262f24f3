"""From a ModelInferRequest to the core's request."""

from __future__ import annotations

import time
from functools import partial

import msgspec

from edgert.frames.request import InferRequest, Responder
from edgert.serve.bodies import Bodies
from edgert.serve.core import InferenceCore
from edgert.serve.grpc.inputs import InputReader
from edgert.serve.grpc.parameters import read_parameters
from edgert.serve.grpc.places import read_outputs
from edgert.serve.grpc.response import ResponseWriter
from edgert.serve.grpc.versions import parse_version
from edgert.serve.grpc.wire import Cut, read_request
from edgert.serve.shared_memory import SharedMemory

INLINE_BYTES = 1 << 18
_REGION = b"shared_memory_region"


class Arrived(msgspec.Struct, frozen=True, eq=False):
    """A request, and how its responses are written."""

    request: InferRequest
    writer: ResponseWriter
    wants_empty_final: bool


def is_long(pieces: Cut) -> bool:
    """Say whether reading it would hold up the other clients: it has many typed elements or texts."""
    if len(pieces.head) > INLINE_BYTES:
        return True
    if b"BYTES" not in pieces.head:
        return False
    return _REGION in pieces.head or sum(map(len, pieces.raws or ())) > INLINE_BYTES


def read_infer(
    pieces: Cut,
    responder: Responder,
    core: InferenceCore,
    shared_memory: SharedMemory | None,
    bodies: Bodies,
) -> Arrived:
    """Return what a client asks. The arrays are views of the message. Raises RequestError.

    What it takes beside the message is counted in `bodies` as long as the responder lives.
    """
    arrived_mono_ns = time.monotonic_ns()
    hold = partial(bodies.take_json, owner=responder)
    hold(len(pieces.head))
    message, raws = read_request(pieces)
    parameters = read_parameters(message.parameters)
    wanted = read_outputs(message.outputs, shared_memory) if message.outputs else {}
    request = InferRequest(
        model=message.model_name,
        version=parse_version(message.model_version),
        id=message.id,
        inputs=InputReader(message, raws, shared_memory, hold).read(),
        outputs=tuple(wanted),
        priority=parameters.priority,
        timeout_us=parameters.timeout_us,
        sequence=parameters.sequence,
        parameters=parameters.rest,
        responder=responder,
        arrived_mono_ns=arrived_mono_ns,
    )
    return Arrived(request, ResponseWriter(core, wanted), parameters.wants_empty_final)
