"""Lanes that take the time of a fake clock, and a bell whose wait moves that clock: no thread, no sleep."""

from __future__ import annotations

from collections import deque

from edgert.perf.drive import Bell, Rig
from tests.fakes.clock import FakeClock
from tests.fakes.lane import FakeLane

MS = 1_000_000
LEAST_STEP_NS = 10_000  # a wait of no time still lets some pass, as a real one does


class MovingWakes:
    """Wakes whose `wait` returns at once, later."""

    def __init__(self, clock):
        self._clock = clock
        self._is_rung = False

    def wake(self):
        self._is_rung = True

    def wait(self, timeout=None):
        if self._is_rung:
            self._is_rung = False
            return True
        self._clock.advance(max(round(timeout * 1e9), LEAST_STEP_NS))
        return False


class PacedLane(FakeLane):
    """A FakeLane that runs batch after batch, each for the next of `services_ns`, the last for ever."""

    def __init__(self, clock, *services_ns, sets=2, in_flight=2, device=None):
        super().__init__(sets=sets, in_flight=in_flight)
        self.most_in_flight = self.batches = 0
        self._clock = clock
        self._services_ns = deque(services_ns)
        self._device = device
        self._spans = deque()
        self._finished = deque()

    def submit(self, buffers, fill, tag, on_read=lambda: None):
        super().submit(buffers, fill, tag, on_read)
        begun = max([self._clock(), *(due for _, due in self._spans)])
        self._spans.append((begun, begun + self._services_ns[0]))
        if len(self._services_ns) > 1:
            self._services_ns.popleft()
        self.batches += 1
        self.most_in_flight = max(self.most_in_flight, len(self.running))

    def look_ns(self, now_ns):
        return self._spans[0][1] if self._spans else None

    def poll(self):
        while self._spans and self._spans[0][1] <= self._clock():
            self._finished.append(self._spans.popleft())
            self.finish()
        return [self._stamped(completed) for completed in super().poll()]

    def _stamped(self, completed):
        begun, finished = self._finished.popleft()
        completed.started_mono_ns = completed.filled_mono_ns = begun
        completed.finished_mono_ns = finished
        completed.device = self._device
        return completed


def fill(buffers):
    """Fill with something."""
    buffers.inputs({"x": (1, 4)})


def open_rig(clock, *lanes, next_fill=lambda: fill, is_driven=False):
    """Return a rig of these lanes on this clock."""
    return Rig(lanes, next_fill, Bell(MovingWakes(clock)), is_driven)


class PassingClock(FakeClock):
    """Each look at it takes `call_ns`."""

    def __init__(self, now_ns, call_ns):
        super().__init__(now_ns)
        self._call_ns = call_ns

    def __call__(self):
        self.now_ns += self._call_ns
        return self.now_ns


def make_clock(call_ns=0):
    """Return a clock that does not begin at zero."""
    return PassingClock(5_000 * MS, call_ns)
