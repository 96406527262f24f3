"""What the pipeline asks of an engine and of its lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from edgert.errors import EdgertError
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec


class EngineInfo(msgspec.Struct, frozen=True):
    """What the engine file itself says."""

    runtime: str  # onnxruntime, tensorrt, ...
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batches: bool  # the first axis of every tensor is a variable batch axis

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the file prescribes; None where it is variable or there is no such axis."""
        sides = {spec.shape[0] if len(spec.shape) > 1 else 0 for spec in (*self.inputs, *self.outputs)}
        return sides.pop() if not self.batches and len(sides) == 1 and min(sides) > 0 else None


class BufferSet(Protocol):
    """A lane's inputs and outputs for one batch, owned by whoever acquired it until `Lane.release`."""

    index: int

    def inputs(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Array]:
        """Return the input arrays for these shapes (batch axis included), to be filled; reused memory."""

    def outputs(self) -> Mapping[str, Array]:
        """Return the output arrays of the finished batch, valid until `Lane.release`."""


Fill = Callable[[BufferSet], None]


class Completed(msgspec.Struct, gc=False):
    """A batch that has left the lane; `error` says that its outputs must not be read."""

    buffers: BufferSet
    tag: object
    error: EdgertError | None
    started_mono_ns: int
    filled_mono_ns: int
    finished_mono_ns: int


class Lane(Protocol):
    """Runs batches one after the other. One thread submits; `on_done` is called from any thread."""

    def acquire(self) -> BufferSet | None:
        """Return a free buffer set, or None while all are in flight or being decoded. Never blocks."""

    def submit(self, buffers: BufferSet, fill: Fill, tag: object) -> None:
        """Run a batch: `fill(buffers)` on the lane, then the engine. Returns at once.

        `tag` comes back with the completion. An exception of `fill` or of the engine is that
        batch's `error`.

        Raises:
            BusyError: the buffer set was not acquired from this lane, or the lane takes no batch just now.
            ClosedError: the lane was closed.
        """

    def poll(self) -> list[Completed]:
        """Return batches completed since the last call. Never blocks."""

    def release(self, buffers: BufferSet) -> None:
        """Give a buffer set back after decoding. Any thread. Raises BusyError if it was not acquired."""

    def close(self) -> None:
        """Wait for the batch in flight, stop and free everything. Allowed again."""


class Engine(Protocol):
    """A loaded engine file. Lanes share its weights."""

    info: EngineInfo

    def open_lane(self, max_batch: int, on_done: Callable[[], None]) -> Lane:
        """Return a new lane. `on_done` is called, on any thread, when `poll` or `acquire` may have news.

        Raises:
            OutOfDeviceMemoryError: no room for the lane's buffers.
        """

    def close(self) -> None:
        """Free the engine. Its lanes must have been closed."""
