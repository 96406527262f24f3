"""What the pipeline asks of an engine and of its lanes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from edgert.device.driver import Stream
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


class DeviceTensor(msgspec.Struct, frozen=True, gc=False):
    """A contiguous tensor that only the device sees."""

    address: int
    shape: tuple[int, ...]
    dtype: str  # NumPy's name


Tensor = Array | DeviceTensor


class BufferSet(Protocol):
    """A lane's inputs and outputs for one batch, owned by whoever acquired it until `Lane.release`."""

    index: int

    @property
    def stream(self) -> Stream | None:
        """The stream on which `fill` enqueues what writes the inputs; None: it writes arrays itself."""

    def inputs(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Tensor]:
        """Return the inputs for these shapes (batch axis included), to be filled; reused memory."""

    def outputs(self) -> Mapping[str, Array]:
        """Return the output arrays of the finished batch, valid until `Lane.release`."""


Fill = Callable[[BufferSet], None]
OnRead = Callable[[], None]


class DeviceTimes(msgspec.Struct, frozen=True, gc=False):
    """What a batch took on the device, by its own clock, in milliseconds."""

    fill_ms: float  # copies to the device and preparation
    compute_ms: float
    fetch_ms: float  # copies of the outputs to the host


class Completed(msgspec.Struct, gc=False):
    """A batch that has left the lane; `error` says that its outputs must not be read."""

    buffers: BufferSet
    tag: object
    error: EdgertError | None
    started_mono_ns: int
    filled_mono_ns: int  # what fill did, or enqueued, was done
    finished_mono_ns: int
    device: DeviceTimes | None = None  # of a lane that was opened timed


class GraphCounts(msgspec.Struct, frozen=True):
    """How a lane's batches ran. All zero on the host."""

    captured: int = 0  # graphs
    launched: int = 0  # batches that ran as a graph
    enqueued: int = 0  # batches that ran without


class Lane(Protocol):
    """Runs batches in order. One thread submits and polls; `on_done` is called from any thread."""

    def acquire(self) -> BufferSet | None:
        """Return a free buffer set, or None while all are in flight or being decoded. Never blocks."""

    def submit(self, buffers: BufferSet, fill: Fill, tag: object, on_read: OnRead = ...) -> None:
        """Run a batch: `fill(buffers)` on the lane, then the engine. Returns at once.

        `tag` comes back with the completion. An exception of `fill` or of the engine is that
        batch's `error`. `on_read` is called once what `fill` reads may be overwritten, also after an
        error, and before the batch is returned by `poll`.

        Raises:
            BusyError: the buffer set was not acquired from this lane, or the lane takes no batch just now.
            ClosedError: the lane was closed.
        """

    def poll(self) -> list[Completed]:
        """Return batches completed since the last call. Never blocks."""

    def look_ns(self, now_ns: int) -> int | None:
        """Return when to poll next; None if the lane calls `on_done` itself, or has nothing in flight."""

    def release(self, buffers: BufferSet) -> None:
        """Give a buffer set back after decoding. Any thread. Raises BusyError if it was not acquired."""

    def batch_sizes(self) -> tuple[int, ...]:
        """Return the sizes at which batches run: a smaller one at the next. Empty: each at its own."""

    def graph_counts(self) -> GraphCounts:
        """Return how batches ran so far. Any thread."""

    def close(self) -> None:
        """Wait for the batch in flight, stop and free everything. Allowed again."""


class LayerInfo(msgspec.Struct, frozen=True):
    """One layer of an engine, as its runtime tells it."""

    name: str
    kind: str = ""
    tactic: str = ""
    precision: str = ""


class ProfileRange(msgspec.Struct, frozen=True):
    """Shapes of one input that a profile covers."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


class EngineDetails(msgspec.Struct, frozen=True):
    """What an engine file holds beyond its tensors, as far as its runtime says."""

    weights_bytes: int = 0
    scratch_bytes: int = 0  # for each lane, at the largest shapes
    profiles: tuple[Mapping[str, ProfileRange], ...] = ()
    layers: tuple[LayerInfo, ...] = ()
    auxiliary_streams: int = 0
    is_refittable: bool = False


class LaneOptions(msgspec.Struct, frozen=True):
    """What an engine on a device may do for a lane; engines of the host ignore it."""

    graphs: int = 8  # captured at most, for each buffer set; 0: none
    priority: int = 0  # of its streams; higher goes first
    scratch_group: str = ""  # lanes of one group never overlap and share one scratch buffer
    is_timed: bool = False  # its batches carry `DeviceTimes`


DEFAULT_LANE = LaneOptions()


class Engine(Protocol):
    """A loaded engine file. Lanes share its weights."""

    info: EngineInfo

    @property
    def is_driven(self) -> bool:
        """Its lanes are submitted to and polled by one thread, with the device current there."""

    def open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions = DEFAULT_LANE
    ) -> Lane:
        """Return a new lane. `on_done` is called, on any thread, when `poll` or `acquire` may have news.

        Raises:
            OutOfDeviceMemoryError: no room for the lane's buffers.
        """

    def warmed(self) -> None:
        """Hear that every lane has run once: what was compiled for it may be kept."""

    def details(self) -> EngineDetails:
        """Return what else the engine file says, for people."""

    def close(self) -> None:
        """Free the engine. Its lanes must have been closed."""
