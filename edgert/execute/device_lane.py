"""A lane on a device: execution contexts, a copy stream, a compute stream and two buffer sets.

A batch is copied and prepared on the copy stream while the one before it runs on the compute stream. Nothing
here waits for the device: marks say when slots may be overwritten and when outputs may be read.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import ClassVar

from edgert.device.driver import Stream
from edgert.device.opened import OpenDevice
from edgert.errors import BusyError, ClosedError, DeviceError, DeviceLostError, EdgertError, ModelError
from edgert.execute.bindings import NOTHING, BindingCache, TensorMemory
from edgert.execute.device_buffers import DeviceBufferSet, Flight, Marks
from edgert.execute.engine import (
    BufferSet,
    Completed,
    EngineInfo,
    Fill,
    GraphCounts,
    LaneOptions,
    OnRead,
)
from edgert.execute.pace import Pace
from edgert.execute.runner import Runner
from edgert.stats import LiveCount

SETS_PER_LANE = 2
FIRST_LOOK_NS = 20_000  # after a batch was submitted, whether its slots have been read


def open_device_lane(
    runner: Runner,
    info: EngineInfo,
    device: OpenDevice,
    options: LaneOptions,
    on_done: Callable[[], None],
    owner: str,
) -> DeviceLane:
    """Return a lane that owns `runner`, which is closed also if this raises.

    Raises:
        OutOfDeviceMemoryError: no room for the lane's tensors.
    """
    driver = device.driver
    with ExitStack() as undo:
        undo.callback(runner.close)
        largest = runner.largest()
        streams = []
        for _ in range(2):
            streams.append(driver.open_stream(options.priority))
            undo.callback(streams[-1].close)
        sets = []
        for index in range(SETS_PER_LANE):
            memory = TensorMemory(driver, device.memory, info, largest, owner)
            cache = BindingCache(memory, options.graphs)
            undo.callback(cache.close)
            marks = Marks(driver, is_timed=options.is_timed)
            undo.callback(marks.close)
            sets.append(DeviceBufferSet(index, cache, runner, streams[0], marks))
        lane = DeviceLane(runner, (streams[0], streams[1]), sets, device, on_done, is_timed=options.is_timed)
        undo.pop_all()
        return lane


class DeviceLane:
    """A Lane (see `engine.Lane`). Submit and poll on one thread, with the driver current there."""

    live: ClassVar[LiveCount] = LiveCount("device lane")

    def __init__(
        self,
        runner: Runner,
        streams: tuple[Stream, Stream],
        sets: Sequence[DeviceBufferSet],
        device: OpenDevice,
        on_done: Callable[[], None],
        *,
        is_timed: bool,
    ) -> None:
        """Take over runner, streams (copy, compute) and buffer sets."""
        self.runner = runner
        self._on_done = on_done
        self._copies = device.copies
        self._current = device.driver.current
        self._is_timed = is_timed
        self._flying: deque[Flight] = deque()
        self._landed: list[Completed] = []  # when the lane was closed
        self._pace = Pace()
        self._is_closed = False
        self._is_stuck = False  # a batch never ends
        self._copy, self._compute = streams
        self._sets = sets
        self._free = deque(self._sets)
        self.live.opened()

    def acquire(self) -> BufferSet | None:
        """Return a free buffer set, or None."""
        if self._is_closed or not self._free:
            return None
        own = self._free.popleft()
        own.is_free = False
        return own

    def submit(self, buffers: BufferSet, fill: Fill, tag: object, on_read: OnRead = lambda: None) -> None:
        """Enqueue the batch. Raises BusyError, ClosedError."""
        if self._is_closed:
            raise ClosedError("The lane was closed.")
        own = self._acquired(buffers)
        started = filled = time.monotonic_ns()
        error: EdgertError | None = None
        try:
            self._fill(own, fill)
            filled = time.monotonic_ns()
            self._run(own)
        except EdgertError as known:
            error = known
        except Exception as unknown:  # noqa: BLE001 - whatever a runtime raises is the fate of this batch only
            error = ModelError(f"The batch failed: {unknown}")
            error.__cause__ = unknown
        if error is not None:
            error = self._end_failed(own, error)
        submitted, look_ns = time.monotonic_ns(), self._pace.first_look_ns(started)
        self._flying.append(
            Flight(own, tag, on_read, started, filled, submitted, look_ns, filled + FIRST_LOOK_NS, error)
        )
        del error  # its traceback leads back here: together they would keep the batch's frames alive

    def poll(self) -> list[Completed]:
        """Return what completed since the last call, and say which slots have been read."""
        done, self._landed = self._landed, []
        flying = self._flying
        if not flying:
            if not self._is_closed and not self.runner.is_settled():
                self._move()  # nothing runs: so the old scratch memory can go
            return done
        try:
            while flying and flying[0].buffers.marks.done.is_done():
                done.append(self._land(flying.popleft(), None))
            for flight in flying:
                self._tell_read(flight)
            if flying:
                self._look_again(flying[0])
        except DeviceError as lost:
            while flying:
                done.append(self._land(flying.popleft(), lost))
        return done

    def look_ns(self, now_ns: int) -> int | None:
        """Return when the oldest batch in flight may be done, or slots may have been read."""
        if not self._flying:
            return None
        unread = [flight.read_look_ns for flight in self._flying if not flight.is_read]
        return min(self._flying[0].look_ns, *unread) if unread else self._flying[0].look_ns

    def release(self, buffers: BufferSet) -> None:
        """Make the buffer set free again. Raises BusyError."""
        own = self._acquired(buffers)
        own.is_free = True
        self._free.append(own)
        self._on_done()

    def batch_sizes(self) -> tuple[int, ...]:
        """Return the sizes at which batches run."""
        return self.runner.sizes

    def graph_counts(self) -> GraphCounts:
        """Return how batches ran so far."""
        return GraphCounts(self.runner.captured, self.runner.launched, self.runner.enqueued)

    def close(self) -> None:
        """Wait for what is in flight, free everything. Any thread, once nobody submits any more."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._is_stuck:  # to wait or to free would take for ever; the process ends
            self.live.closed()
            return
        with self._current():
            lost = self._settle()
            while self._flying:
                self._landed.append(self._land(self._flying.popleft(), lost))
            for own in self._sets:
                own.close()
            self.runner.close()
            self._copy.close()
            self._compute.close()
        self.live.closed()

    def _fill(self, own: DeviceBufferSet, fill: Fill) -> None:
        own.begin()
        if not self.runner.is_settled():
            self._move()
        if self._is_timed:
            self._copy.record(own.marks.begun)
        fill(own)
        self._copy.record(own.marks.filled)
        self._compute.wait(own.marks.filled)

    def _run(self, own: DeviceBufferSet) -> None:
        binding, compute = own.binding, self._compute
        if binding is None:
            raise ModelError("The batch has no inputs: `inputs` was not called.")
        self.runner.run(binding, compute, own.cache, NOTHING if self._is_timed else own.fetched)
        if self._is_timed:
            compute.record(own.marks.computed)
            binding.fetch(compute, own.fetched)
        for destination, source, size_bytes in own.onward:
            compute.copy(destination, source, size_bytes)
            self._copies.add("device_to_device", size_bytes)
        compute.record(own.marks.done)
        if fetches := binding.fetches(own.fetched):
            self._copies.add("device_to_host", binding.fetch_bytes(own.fetched), len(fetches))

    def _end_failed(self, own: DeviceBufferSet, error: EdgertError) -> EdgertError:
        """Mark the end of what a batch did enqueue before it failed; return why it failed."""
        try:
            self._copy.record(own.marks.filled)
            self._compute.wait(own.marks.filled)
            self._compute.record(own.marks.done)
        except DeviceError as refused:
            return refused
        return error

    def _tell_read(self, flight: Flight) -> None:
        if flight.is_read:
            return
        if flight.buffers.marks.filled.is_done():
            flight.is_read = True
            flight.on_read()
        else:
            flight.read_look_ns = time.monotonic_ns() + FIRST_LOOK_NS

    def _look_again(self, flight: Flight) -> None:
        """Say when to ask next for a batch that is not done. Raises DeviceLostError for one that never is."""
        now_ns = time.monotonic_ns()
        if now_ns < flight.look_ns:
            return
        flight.looks += 1
        flight.look_ns = self._pace.next_look_ns(now_ns)
        waited_ns = now_ns - flight.submitted_mono_ns  # a runtime may have compiled before that
        if self._pace.is_stuck(waited_ns):
            self._is_stuck = True
            waited_s, usual_ms = waited_ns / 1e9, self._pace.usual_ns / 1e6
            raise DeviceLostError(
                f"A batch has not ended after {waited_s:.0f} s; they take {usual_ms:.1f} ms. "
                "The process has to be started again."
            )

    def _land(self, flight: Flight, lost: DeviceError | None) -> Completed:
        if not flight.is_read:
            flight.is_read = True
            flight.on_read()
        error = flight.error or lost
        finished = time.monotonic_ns()
        self._pace.learn(finished - flight.started_mono_ns, is_exact=flight.looks > 0)
        times = None
        if self._is_timed and error is None:
            try:
                times = flight.buffers.marks.times()
            except DeviceError as untimed:
                error = untimed
        return Completed(
            flight.buffers,
            flight.tag,
            error,
            flight.started_mono_ns,
            flight.filled_mono_ns,
            finished,
            times,
        )

    def _move(self) -> None:
        """Go on with larger scratch memory, once what runs has ended: it happens when a model is loaded."""
        self._settle()
        for own in self._sets:
            own.cache.drop_graphs()
        self.runner.move()

    def _settle(self) -> DeviceError | None:
        """Wait for both streams; return why the device does not answer, if so."""
        try:
            self._copy.synchronize()
            self._compute.synchronize()
        except DeviceError as lost:
            return lost
        return None

    def _acquired(self, buffers: BufferSet) -> DeviceBufferSet:
        if not isinstance(buffers, DeviceBufferSet) or buffers.stream is not self._copy:
            raise BusyError("The buffer set belongs to another lane.")
        if buffers.is_free:
            raise BusyError(f"Buffer set {buffers.index} is free: it was released before, or never acquired.")
        return buffers
