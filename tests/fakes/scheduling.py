"""A scheduler on a fake clock, and a model of frames for it."""

from __future__ import annotations

from contextlib import nullcontext

from edgert.schedule.batcher import Batcher, BatchPolicy
from edgert.schedule.route import Route
from edgert.schedule.scheduler import Scheduler
from tests.fakes.clock import FakeClock
from tests.fakes.frames import make_frame
from tests.fakes.lane import FakeLane


class SchedulerBench:
    """A scheduler that runs by a fake clock; each step returns once it has done all that is to do."""

    def __init__(self, current=nullcontext) -> None:
        self.clock = FakeClock()
        self.wakes = self.clock.wakes()
        self.scheduler = Scheduler(self.clock, self.wakes, current)
        self.scheduler.start()

    def open_lanes(self, count: int = 1, **options) -> list[FakeLane]:
        return [FakeLane(self.scheduler.wake, **options) for _ in range(count)]

    def add(self, *ports) -> None:
        for port in ports:
            self.scheduler.add(port)
        self.wakes.wait_until_asleep()

    def look(self) -> None:
        self.scheduler.wake()
        self.wakes.wait_until_asleep()

    def finish(self, lane: FakeLane) -> None:
        lane.finish()
        self.wakes.wait_until_asleep()

    def advance(self, by_ns: int) -> None:
        self.clock.advance(by_ns)
        self.wakes.wait_until_asleep()


class FakeModel:
    """A ModelPort of frames that gives buffers back at once and remembers what completed."""

    def __init__(self, lanes, *, is_driven: bool = False, **policy) -> None:
        self.lanes = lanes
        self.is_driven = is_driven
        self.batcher = Batcher(BatchPolicy(**policy), lambda route, frame, reason: None)
        self.route = Route("door", "model")
        self.completed = []
        self._seq = iter(range(1_000_000))

    def offer(self, count: int = 1, now_ns: int = 0) -> None:
        for _ in range(count):
            assert self.batcher.offer(self.route, make_frame(seq=next(self._seq)), now_ns)

    def submit(self, lane, buffers, waiting) -> None:
        lane.submit(buffers, lambda _: None, [frame.seq for _, frame in waiting])

    def complete(self, lane, completed) -> None:
        lane.release(completed.buffers)
        self.completed.append(completed.tag)
        self.on_complete(completed.tag)

    def on_complete(self, frames) -> None:
        """Hear of a batch; a test puts its own in place."""
