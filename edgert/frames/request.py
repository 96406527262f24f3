"""A request for an inference and its responses: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec

from edgert.device.handed import HandedPool, HandedTensor
from edgert.errors import EdgertError
from edgert.frames.result import Array

Parameter = bool | int | float | str


class SequenceStep(msgspec.Struct, frozen=True):
    """Which sequence a request belongs to. An id is a whole number above 0 or a text that is not empty."""

    id: int | str
    is_start: bool = False
    is_end: bool = False


class KeptOutputs(msgspec.Struct, eq=False):
    """Outputs of one request that lanes of the named devices leave there, in place of arrays in the response.

    Who asks releases the tensors, also after an error. A lane elsewhere, or one without room, leaves none.
    """

    places: Mapping[str, HandedPool]  # by output
    shown: Collection[str] = ()  # those of them that the response is to have too
    tensors: dict[str, HandedTensor] = {}  # there once the batch is done

    def is_shown(self, name: str) -> bool:
        """Say whether the response has an array of this output."""
        return name not in self.tensors or name in self.shown


class InferResponse(msgspec.Struct, eq=False):
    """One answer to a request; requests to decoupled models get none, one or many before the final one.

    Arrays are the lane's memory: whoever wants them after `Responder.respond` returns copies them.
    """

    model: str
    version: int
    id: str = ""
    outputs: Mapping[str, Array] = {}  # those the request wants, in its order, the batch axis included
    parameters: Mapping[str, Parameter] = {}
    error: EdgertError | None = None  # then there are no outputs
    is_final: bool = True


class Responder(Protocol):
    """Where whoever sent a request waits."""

    def respond(self, response: InferResponse) -> None:
        """Take a response. Called on any thread, never on two at once; must neither block nor raise."""


class InferRequest(msgspec.Struct, eq=False, kw_only=True):
    """What a client asks of a model. Its arrays are read until the final response, then never again.

    Inputs have the shapes that config.pbtxt shows, the batch axis included where the model batches. Text
    is an object array of `bytes`; BF16 is uint16. Those of an ensemble's step may be `HandedTensor`s, which
    stay until the final response too.
    """

    model: str
    version: int = 0  # 0: the newest that is served
    inputs: Mapping[str, Array]
    responder: Responder
    id: str = ""
    outputs: tuple[str, ...] = ()  # wanted; empty: all
    kept: KeptOutputs | None = None  # which of them may stay on a device; of an ensemble's step only
    priority: int = 0  # 1 is the highest; 0: the model's default
    timeout_us: int = 0  # in the queue; 0: the model's default
    sequence: SequenceStep | None = None
    parameters: Mapping[str, Parameter] = {}
    arrived_mono_ns: int = 0
    is_cancelled: bool = False  # its sender no longer waits; what has not begun is not begun
