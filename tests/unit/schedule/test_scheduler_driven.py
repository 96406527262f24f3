"""Models whose lanes only the scheduler's thread may use: polled when due, with the device current."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from tests.fakes.lane import FakeLane
from tests.fakes.scheduling import FakeModel, SchedulerBench

MS = 1_000_000


class DrivenLane(FakeLane):
    """A FakeLane that wakes nobody, and notes when and on which threads it was used.

    It may be done `takes_ns` after a batch was submitted and, if it was not, `again_ns` after it was asked.
    """

    def __init__(self, clock, device, *, takes_ns=5 * MS, again_ns=2 * MS, **options):
        super().__init__(**options)
        self.polled_ns = []
        self.threads = set()
        self._takes_ns, self._again_ns = takes_ns, again_ns
        self._look_ns = None
        self._clock = clock
        self._device = device

    def look_ns(self, now_ns):
        return self._look_ns

    def submit(self, buffers, fill, tag, on_read=lambda: None):
        self._note()
        super().submit(buffers, fill, tag, on_read)
        if self._look_ns is None:
            self._look_ns = self._clock() + self._takes_ns

    def poll(self):
        self._note()
        self.polled_ns.append(self._clock())
        self._look_ns = self._clock() + self._again_ns if self.running else None
        return super().poll()

    def polls(self):
        """Return when it was polled since the last call."""
        polled, self.polled_ns = self.polled_ns, []
        return polled

    def _note(self):
        assert self._device.is_current, "The device is not current for this thread."
        self.threads.add(threading.current_thread())


class Model(FakeModel):
    """Remembers also when a batch completed."""

    def __init__(self, clock, lanes, **options):
        super().__init__(lanes, **options)
        self._clock = clock

    def offer(self, count=1):
        super().offer(count, self._clock())

    def complete(self, lane, completed):
        lane.release(completed.buffers)
        self.completed.append((self._clock(), completed.tag))


class Device:
    """Says on which threads it is current now, and on which it ever was."""

    def __init__(self):
        self.threads = []
        self._own = threading.local()

    @property
    def is_current(self):
        return getattr(self._own, "is_current", False)

    @contextmanager
    def current(self):
        self._own.is_current = True
        self.threads.append(threading.current_thread())
        yield
        self._own.is_current = False
        self.threads.remove(threading.current_thread())


class Bench(SchedulerBench):
    """With a device."""

    def __init__(self):
        self.device = Device()
        super().__init__(self.device.current)

    def lane(self, **options):
        return DrivenLane(self.clock, self.device, **options)

    def model(self, *lanes, is_driven=True, **options):
        model = Model(self.clock, lanes, is_driven=is_driven, **options)
        self.add(model)
        for lane in lanes:
            if isinstance(lane, DrivenLane):
                lane.polls()
        return model

    def offer(self, model, count=1):
        model.offer(count)
        self.look()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.scheduler.stop()


# When


def test_a_driven_lane_is_polled_when_it_is_due_and_not_before(bench):
    lane = bench.lane(takes_ns=5 * MS)
    model = bench.model(lane)
    bench.offer(model)
    assert (lane.running, bench.wakes.due_ns) == ([[0]], 5 * MS)
    lane.finish()
    lane.polls()

    bench.advance(4 * MS)
    bench.look()  # another model has a frame, say
    assert (lane.polls(), model.completed) == ([], [])

    bench.advance(1 * MS)
    assert lane.polls() == [5 * MS]
    assert model.completed == [(5 * MS, [0])]


def test_a_batch_that_is_not_done_when_it_was_due_is_looked_for_when_the_lane_says_next(bench):
    lane = bench.lane(takes_ns=5 * MS, again_ns=2 * MS)
    model = bench.model(lane)
    bench.offer(model)
    lane.polls()
    bench.advance(5 * MS)
    assert (lane.polls(), bench.wakes.due_ns) == ([5 * MS], 7 * MS)
    bench.advance(2 * MS)
    assert (lane.polls(), bench.wakes.due_ns) == ([7 * MS], 9 * MS)
    lane.finish()
    bench.advance(2 * MS)
    assert model.completed == [(9 * MS, [0])]


def test_with_nothing_in_flight_it_sleeps_until_somebody_wakes_it(bench):
    lane = bench.lane(takes_ns=5 * MS)
    model = bench.model(lane)
    assert bench.wakes.due_ns is None
    bench.offer(model)
    lane.finish()
    bench.advance(5 * MS)
    assert model.completed == [(5 * MS, [0])]
    assert bench.wakes.due_ns is None


def test_it_sleeps_until_the_first_of_several_lanes_is_due(bench):
    slow, fast = bench.lane(takes_ns=9 * MS), bench.lane(takes_ns=4 * MS)
    bench.offer(bench.model(slow, fast, max_batch=1), 2)
    assert bench.wakes.due_ns == 4 * MS
    for lane in (slow, fast):
        lane.polls()
    bench.advance(4 * MS)
    assert (slow.polls(), fast.polls()) == ([], [4 * MS])


def test_a_lane_that_is_due_already_is_polled_without_sleep(bench):
    lane = bench.lane(takes_ns=0, again_ns=2 * MS)
    bench.offer(bench.model(lane))
    assert lane.polls()[-1] == 0
    assert bench.wakes.due_ns == 2 * MS


def test_an_incomplete_batch_goes_on_time_though_a_lane_is_due_later(bench):
    busy, idle = bench.lane(takes_ns=9 * MS), bench.lane(takes_ns=9 * MS)
    bench.offer(bench.model(busy))
    bench.offer(bench.model(idle, max_batch=4, delay_ns=3 * MS))
    assert (idle.running, bench.wakes.due_ns) == ([], 3 * MS)
    bench.advance(3 * MS)
    assert idle.running == [[0]]


def test_a_lane_is_polled_on_time_though_an_incomplete_batch_goes_later(bench):
    busy, idle = bench.lane(takes_ns=2 * MS), bench.lane()
    bench.offer(bench.model(idle, max_batch=4, delay_ns=3 * MS))
    bench.offer(bench.model(busy))
    assert bench.wakes.due_ns == 2 * MS


def test_a_batch_that_is_done_makes_room_for_the_next_in_the_same_look(bench):
    lane = bench.lane(takes_ns=5 * MS)
    model = bench.model(lane, max_batch=1)
    bench.offer(model, 2)
    lane.finish()
    bench.advance(5 * MS)
    assert (model.completed, lane.running) == ([(5 * MS, [0])], [[1]])
    assert bench.wakes.due_ns == 10 * MS


# Where


def test_driven_lanes_are_used_by_the_schedulers_thread_only(bench):
    lane = bench.lane(takes_ns=5 * MS)
    bench.offer(bench.model(lane))
    lane.finish()
    bench.advance(5 * MS)
    assert lane.threads == {bench.scheduler.thread}


def test_the_device_is_current_on_the_schedulers_thread_as_long_as_that_runs(bench):
    bench.look()
    assert bench.device.threads == [bench.scheduler.thread]
    assert not bench.device.is_current
    bench.scheduler.stop()
    assert bench.device.threads == []


def test_a_look_on_another_thread_leaves_driven_models_alone(bench):
    driven_lane, host_lane = bench.lane(takes_ns=5 * MS), FakeLane()
    driven = bench.model(driven_lane)
    on_host = bench.model(host_lane, is_driven=False)
    driven.offer()
    on_host.offer()
    driven_lane.polls()
    bench.scheduler.look_now()
    assert (host_lane.running, driven_lane.running, driven_lane.polls()) == ([[0]], [], [])
    bench.look()
    assert driven_lane.running == [[0]]
    assert driven_lane.threads == {bench.scheduler.thread}


def test_a_look_on_another_thread_does_not_collect_from_driven_lanes(bench):
    lane = bench.lane(takes_ns=5 * MS)
    model = bench.model(lane)
    bench.offer(model)
    lane.finish()
    lane.polls()
    bench.clock.now_ns = 5 * MS  # which wakes nobody
    bench.scheduler.look_now()
    assert (model.completed, lane.polls()) == ([], [])
    bench.look()
    assert model.completed == [(5 * MS, [0])]


def test_lanes_of_the_host_are_still_collected_from_whenever_they_ring(bench):
    host_lane = FakeLane(bench.scheduler.wake)
    on_host = bench.model(host_lane, is_driven=False)
    bench.offer(bench.model(bench.lane(takes_ns=5 * MS)))
    bench.offer(on_host)
    host_lane.finish()
    bench.wakes.wait_until_asleep()
    assert on_host.completed == [(0, [0])]
    assert bench.wakes.due_ns == 5 * MS
