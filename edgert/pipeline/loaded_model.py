"""One model version at work: its engine, its lanes, and what goes before and after them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Protocol

import msgspec

from edgert.decode.decoder import Decoder
from edgert.errors import EdgertError, FrameError, ModelError
from edgert.execute.engine import BufferSet, Completed, Engine, Lane
from edgert.frames.frame import Frame
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Output
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.model_plan import has_batch_axis
from edgert.pipeline.warm_up import warm_up
from edgert.schedule.batcher import Batcher, BatchPolicy, Waiting
from edgert.schedule.route import Route
from edgert.stats import Latency, LatencySummary, LiveCount

log = logging.getLogger(__name__)
Shape = tuple[int, ...]

WARNING_INTERVAL_NS = 60_000_000_000  # failed frames are warned of once in this time
WARM_UP_SIDE = 64  # of the picture, where the engine takes any size


class Preparer(Protocol):
    """What a lane asks of preparation; see `prepare.convert.Preparer`."""

    def shape_for(self, pixel_format: str, height: int, width: int) -> tuple[int, ...]:
        """Return the tensor shape of one such frame, without the batch axis."""

    def place(self, image: Array, pixel_format: str, item_out: Array) -> Placement:
        """Write the frame into its place in the tensor."""


class Batch(msgspec.Struct, gc=False, eq=False):
    """Frames that run together, with the routes they came by.

    Placements come as the frames are prepared; a frame that cannot be has the error in its place.
    """

    routes: list[Route]
    frames: list[Frame]
    placements: list[Placement | EdgertError]


class FrameTimes(msgspec.Struct, frozen=True):
    """Times summed over frames: each frame of a batch has the whole time of its batch."""

    prepare_ms: float
    execute_ms: float
    decode_ms: float


class ModelStatistics(msgspec.Struct, frozen=True):
    """What one model version has done since it was loaded."""

    version: int
    batches: int
    frames: int
    failed: int
    lanes: int
    queue: LatencySummary  # captured to taken by a lane
    prepare: LatencySummary  # of a batch
    execute: LatencySummary  # of a batch
    decode: LatencySummary  # of a batch
    frame_times: FrameTimes


class LoadedModel:
    """A ModelPort of the scheduler. `on_completed` gets every batch, on the scheduler's thread."""

    live: ClassVar[LiveCount] = LiveCount("loaded model")

    def __init__(
        self,
        name: str,
        version: int,
        engine: Engine,
        decoder: Decoder,
        open_preparer: Callable[[], Preparer],
        policy: BatchPolicy,
        image_input: TensorSpec,
        views: Mapping[str, Shape],
    ) -> None:
        self.name = name
        self.version = version
        self.policy = policy
        self.batcher: Batcher
        self._lanes: list[Lane] = []
        self.on_completed: Callable[[LoadedModel, Lane, Completed], None] = lambda *_: None
        self.on_done: Callable[[], None] = lambda: None
        self._submitted = 0  # written by the scheduler's thread
        self._decoded = 0  # written by the decode thread
        self._engine = engine
        self._decoder = decoder
        self._open_preparer = open_preparer
        self._preparers: dict[int, Preparer] = {}
        self._key_preparer = open_preparer()
        self._image_input = image_input
        self._has_batch_axis = has_batch_axis(engine.info)
        self._views = views  # how tensors look from outside that the engine has in another shape
        first = 1 if self._has_batch_axis else 0
        self._engine_item = image_input.shape[first:]
        self._item = views.get(image_input.name, self._engine_item)
        self._frames = self._batches = self._failed = 0
        self._undecodable = 0  # written by the decode thread
        self._prepare_frame_ns = self._execute_frame_ns = self._decode_frame_ns = 0
        self._warned_ns = -WARNING_INTERVAL_NS
        self._queue, self._prepare, self._execute, self._decode = (Latency() for _ in range(4))
        self.live.opened()

    def open_lanes(self, count: int) -> None:
        """Open lanes and run them, so that the first frame meets no cold engine."""
        for _ in range(count):
            lane = self._engine.open_lane(self.policy.max_batch, self._lane_done)
            self._lanes.append(lane)
            self._preparers[id(lane)] = self._open_preparer()
            warm_up(lane, self.name, self._fill_zeros)

    @property
    def lanes(self) -> Sequence[Lane]:
        """Lanes that are open."""
        return self._lanes

    @property
    def runtime(self) -> str:
        """The runtime that runs it."""
        return self._engine.info.runtime

    def batch_key(self, frame: Frame) -> Hashable:
        """Return what frames must have in common to share a batch: the shape of their tensor."""
        return self._key_preparer.shape_for(frame.format, frame.height, frame.width)

    def submit(self, lane: Lane, buffers: BufferSet, waiting: list[Waiting]) -> None:
        """Start a batch; the frames' slots are released as soon as they are prepared."""
        self._submitted += 1
        batch = Batch([route for route, _ in waiting], [frame for _, frame in waiting], [])
        lane.submit(buffers, partial(self._fill, self._preparers[id(lane)], batch), batch)

    def complete(self, lane: Lane, completed: Completed) -> None:
        """Count the batch and hand it on."""
        batch = completed.tag
        assert isinstance(batch, Batch)  # noqa: S101 - our own invariant
        self._batches += 1
        self._frames += len(batch.frames)
        self._failed += len(batch.frames) if completed.error else 0
        for frame in batch.frames:
            self._queue.add(completed.started_mono_ns - frame.captured_mono_ns)
        self._count_time(completed, len(batch.frames))
        self.on_completed(self, lane, completed)

    def decode(self, completed: Completed, batch: Batch) -> list[Output | EdgertError]:
        """Return each frame's output, or why it has none."""
        if completed.error is not None:
            self._warn(completed.error)
            return [completed.error] * len(batch.frames)
        started = time.monotonic_ns()
        try:
            outputs = completed.buffers.outputs()
        except Exception as failure:  # noqa: BLE001 - whatever a runtime raises is the fate of this batch only
            return [self._undecoded(failure) for _ in batch.frames]
        decoded = [
            self._decode_one(outputs, index, placement) for index, placement in enumerate(batch.placements)
        ]
        took_ns = time.monotonic_ns() - started
        self._decode.add(took_ns)
        self._decode_frame_ns += took_ns * len(decoded)
        return decoded

    def finish(self) -> None:
        """Say that a batch has been decoded and its buffers released."""
        self._decoded += 1

    @property
    def is_idle(self) -> bool:
        """Nothing waits, runs or is being decoded."""
        return not self.batcher.waiting and self._submitted == self._decoded

    def close(self) -> None:
        """Close lanes and engine. No batch may be in flight or undecoded."""
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()
        self._engine.close()
        self.live.closed()

    def statistics(self) -> ModelStatistics:
        """Return counts and latencies."""
        return ModelStatistics(
            self.version,
            self._batches,
            self._frames,
            self._failed + self._undecodable,
            len(self.lanes),
            self._queue.summary(),
            self._prepare.summary(),
            self._execute.summary(),
            self._decode.summary(),
            FrameTimes(
                round(self._prepare_frame_ns / 1e6, 3),
                round(self._execute_frame_ns / 1e6, 3),
                round(self._decode_frame_ns / 1e6, 3),
            ),
        )

    def _count_time(self, completed: Completed, frames: int) -> None:
        prepare_ns = completed.filled_mono_ns - completed.started_mono_ns
        execute_ns = completed.finished_mono_ns - completed.filled_mono_ns
        self._prepare.add(prepare_ns)
        self._execute.add(execute_ns)
        self._prepare_frame_ns += prepare_ns * frames
        self._execute_frame_ns += execute_ns * frames

    def _decode_one(
        self, outputs: Mapping[str, Array], index: int, placement: Placement | EdgertError
    ) -> Output | EdgertError:
        if isinstance(placement, EdgertError):
            return self._undecoded(placement)
        try:
            return self._decoder.decode(self._part(outputs, index), placement)
        except Exception as failure:  # noqa: BLE001 - outputs that no decoder expects are this frame's fate only
            return self._undecoded(failure)

    def _undecoded(self, failure: Exception) -> EdgertError:
        self._undecodable += 1
        if isinstance(failure, EdgertError):
            error = failure
        else:
            error = ModelError(f"The outputs cannot be decoded: {failure}")
        self._warn(error)
        return error

    def _warn(self, error: EdgertError) -> None:
        now_ns = time.monotonic_ns()
        is_due = now_ns - self._warned_ns >= WARNING_INTERVAL_NS
        self._warned_ns = now_ns if is_due else self._warned_ns
        log.log(logging.WARNING if is_due else logging.DEBUG, "model %s: %s", self.name, error)

    def _lane_done(self) -> None:
        self.on_done()

    def _fill(self, preparer: Preparer, batch: Batch, buffers: BufferSet) -> None:
        try:
            self._place_all(preparer, batch, buffers)
        finally:
            for frame in batch.frames:
                frame.slot.release()

    def _place_all(self, preparer: Preparer, batch: Batch, buffers: BufferSet) -> None:
        first = batch.frames[0]
        item_shape = preparer.shape_for(first.format, first.height, first.width)
        self._demand_fitting(first, item_shape)
        tensor = self._tensor(buffers, len(batch.frames), item_shape)
        for place, frame in zip(tensor, batch.frames, strict=False):
            frame.slot.begin_read()
            batch.placements.append(_place(preparer, frame, place))

    def _demand_fitting(self, frame: Frame, item_shape: Shape) -> None:
        """Refuse a batch that the engine cannot take before its tensor is allocated."""
        if not all(own in (-1, side) for own, side in zip(self._item, item_shape, strict=True)):
            raise FrameError(
                f"A frame of {frame.width}x{frame.height} becomes a tensor of {list(item_shape)}; "
                f"model {self.name} takes {list(self._item)}."
            )

    def _tensor(self, buffers: BufferSet, count: int, item_shape: tuple[int, ...]) -> Iterable[Array]:
        """Return the places of the batch's frames in the input tensor."""
        name = self._image_input.name
        axis = (count if self._engine.info.batches else self.policy.max_batch,) * self._has_batch_axis
        engine_item = self._engine_item if name in self._views else item_shape
        tensor = buffers.inputs({name: axis + engine_item})[name].reshape(axis + item_shape)
        return tensor if self._has_batch_axis else [tensor]

    def _part(self, outputs: Mapping[str, Array], index: int) -> Mapping[str, Array]:
        """Return one frame's part of each output."""
        part = {name: array[index] for name, array in outputs.items()} if self._has_batch_axis else outputs
        if not self._views:
            return part
        return {name: array.reshape(self._views.get(name, array.shape)) for name, array in part.items()}

    def _fill_zeros(self, buffers: BufferSet) -> None:
        wanted = self._key_preparer.shape_for("bgr8", WARM_UP_SIDE, WARM_UP_SIDE)
        item_shape = tuple(want if side < 0 else side for side, want in zip(self._item, wanted, strict=True))
        for place in self._tensor(buffers, self.policy.max_batch, item_shape):
            place[...] = 0


def _place(preparer: Preparer, frame: Frame, item_out: Array) -> Placement | EdgertError:
    try:
        return preparer.place(frame.image(), frame.format, item_out)
    except EdgertError as error:  # of this frame; the others of its batch go on
        return error
