"""One model version at work: its engine, its lanes, and what goes before and after them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import msgspec

from edgert.decode.decoder import Decoder, ScoreLimited
from edgert.errors import EdgertError, ModelError
from edgert.execute.engine import DEFAULT_LANE, BufferSet, Completed, Engine, GraphCounts, Lane, LaneOptions
from edgert.frames.frame import Frame
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Output
from edgert.pipeline.fill import Batch, Filler
from edgert.pipeline.model_plan import has_batch_axis
from edgert.pipeline.warm_up import warm_up
from edgert.schedule.batcher import Batcher, BatchPolicy, Waiting
from edgert.stats import Latency, LatencySummary, LiveCount

log = logging.getLogger(__name__)
Shape = tuple[int, ...]

WARNING_INTERVAL_NS = 60_000_000_000  # failed frames are warned of once in this time


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
    graphs: GraphCounts = GraphCounts()


class Flights:
    """Batches of one lane. The scheduler counts, under its lock; any thread reads."""

    __slots__ = ("begun", "ended")

    def __init__(self) -> None:
        self.begun = self.ended = 0


class LoadedModel:
    """A ModelPort of the scheduler. `on_completed` gets every batch, on the scheduler's thread."""

    live: ClassVar[LiveCount] = LiveCount("loaded model")

    def __init__(
        self,
        name: str,
        version: int,
        engine: Engine,
        decoder: Decoder,
        open_filler: Callable[[], Filler],
        policy: BatchPolicy,
        views: Mapping[str, Shape],
        lane_options: LaneOptions = DEFAULT_LANE,
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
        self._open_filler = open_filler
        self._fillers: dict[int, Filler] = {}
        self._flights: dict[int, Flights] = {}  # by lane
        self._key_filler = open_filler()
        self._lane_options = lane_options
        self._has_batch_axis = has_batch_axis(engine.info)
        self._views = views  # how tensors look from outside that the engine has in another shape
        self._frames = self._batches = self._failed = 0
        self._undecodable = 0  # written by the decode thread
        self._prepare_frame_ns = self._execute_frame_ns = self._decode_frame_ns = 0
        self._warned_ns = -WARNING_INTERVAL_NS
        self._queue, self._prepare, self._execute, self._decode = (Latency() for _ in range(4))
        self.live.opened()

    def open_lanes(self, count: int) -> None:
        """Open lanes and run them at every size, so that no frame meets a cold engine."""
        for _ in range(count):
            lane = self._engine.open_lane(self.policy.max_batch, self._lane_done, self._lane_options)
            self._lanes.append(lane)
            filler = self._fillers[id(lane)] = self._open_filler()
            self._flights[id(lane)] = Flights()
            for size in lane.batch_sizes() or (self.policy.max_batch,):
                warm_up(lane, self.name, partial(filler.fill_zeros, count=size))
        self._engine.warmed()

    @property
    def lanes(self) -> Sequence[Lane]:
        """Lanes that are open."""
        return self._lanes

    @property
    def is_driven(self) -> bool:
        """Only the scheduler's thread may submit to its lanes."""
        return self._engine.is_driven

    @property
    def runtime(self) -> str:
        """The runtime that runs it."""
        return self._engine.info.runtime

    def batch_key(self, frame: Frame) -> Hashable:
        """Return what frames must have in common to share a batch: the shape of their tensor."""
        return self._key_filler.shape_for(frame.format, frame.height, frame.width)

    def submit(self, lane: Lane, buffers: BufferSet, waiting: list[Waiting]) -> None:
        """Start a batch; the frames' slots are released as soon as they have been read."""
        self._submitted += 1
        self._flights[id(lane)].begun += 1
        batch = Batch([route for route, _ in waiting], [frame for _, frame in waiting], [])
        lane.submit(buffers, partial(self._fillers[id(lane)].fill, batch), batch, batch.release_slots)

    def complete(self, lane: Lane, completed: Completed) -> None:
        """Count the batch and hand it on."""
        batch = completed.tag
        assert isinstance(batch, Batch)  # noqa: S101 - our own invariant
        self._batches += 1
        self._flights[id(lane)].ended += 1
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

    def set_score_min(self, score_min: float) -> None:
        """Change the least score of results, for batches decoded from now on. Any thread.

        Raises:
            ModelError: its decoder knows no scores.
        """
        if not isinstance(self._decoder, ScoreLimited):
            raise ModelError(f"Model {self.name!r} has no score_min: its decoder hands on plain tensors.")
        self._decoder.set_score_min(score_min)

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
            self._graph_counts(),
        )

    def flights(self) -> list[Flights]:
        """Return what each lane was given and has done."""
        return list(self._flights.values())

    @property
    def submitted(self) -> int:
        """Batches that lanes were given."""
        return self._submitted

    @property
    def usual_batch_ns(self) -> int:
        """What a batch takes on average, from its start on a lane; 0 while that is unknown."""
        spent_ns = self._prepare_frame_ns + self._execute_frame_ns
        return spent_ns // self._frames if self._frames else 0

    def _graph_counts(self) -> GraphCounts:
        counts = [lane.graph_counts() for lane in tuple(self._lanes)]
        return GraphCounts(
            sum(count.captured for count in counts),
            sum(count.launched for count in counts),
            sum(count.enqueued for count in counts),
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

    def _part(self, outputs: Mapping[str, Array], index: int) -> Mapping[str, Array]:
        """Return one frame's part of each output."""
        part = {name: array[index] for name, array in outputs.items()} if self._has_batch_axis else outputs
        if not self._views:
            return part
        return {name: array.reshape(self._views.get(name, array.shape)) for name, array in part.items()}
