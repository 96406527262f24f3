from __future__ import annotations

import threading
import time

import pytest

from edgert.errors import BusyError, ClosedError, DeviceLostError, ModelError
from edgert.execute import host_lane
from edgert.execute.host_lane import SHORT_BATCHES, HostLane
from tests.fakes.lane import TIMEOUT_S, Bell


class Buffers:
    """A buffer set whose engine does what the test says."""

    def __init__(self, index, run=lambda: None):
        self.index = index
        self.run = run
        self.is_closed = False

    def inputs(self, shapes):
        return {}

    def outputs(self):
        return {}

    def close(self):
        self.is_closed = True


class Lane:
    """A HostLane with its bell."""

    def __init__(self, run=lambda: None, **options):
        self.sets = [Buffers(index, run) for index in range(2)]
        self.bell = Bell()
        self.lane = HostLane(self.sets, self.bell, "lane:test", **options)

    def submit(self, fill=lambda _: None, tag=None):
        buffers = self.lane.acquire()
        assert buffers is not None
        self.lane.submit(buffers, fill, tag)
        return buffers

    def wait(self):
        return self.bell.next_from(self.lane)


@pytest.fixture
def make_lane():
    made = []

    def make(**options):
        made.append(Lane(**options))
        return made[-1]

    yield make
    for own in made:
        own.lane.close()


class Gate:
    """A `fill` that waits on the worker until the test opens it."""

    def __init__(self):
        self.is_reached = threading.Event()
        self._is_open = threading.Event()
        self.thread = None

    def __call__(self, buffers):
        self.thread = threading.current_thread()
        self.is_reached.set()
        assert self._is_open.wait(TIMEOUT_S)

    def open(self):
        self._is_open.set()


def test_takes_one_batch_at_a_time(make_lane):
    own, gate = make_lane(), Gate()
    own.submit(gate)
    assert gate.is_reached.wait(TIMEOUT_S)

    assert own.lane.acquire() is None

    gate.open()
    own.wait()
    assert own.lane.acquire() is not None


def test_a_buffer_set_acquired_earlier_is_refused_while_a_batch_runs(make_lane):
    own, gate = make_lane(), Gate()
    first, second = own.lane.acquire(), own.lane.acquire()
    own.lane.submit(first, gate, None)
    with pytest.raises(BusyError, match="one batch at a time"):
        own.lane.submit(second, gate, None)
    gate.open()
    own.wait()
    own.lane.submit(second, gate, "second")
    assert own.wait().tag == "second"


def test_the_next_batch_runs_while_the_last_one_is_decoded(make_lane):
    own, gate = make_lane(), Gate()
    decoding = own.submit(tag="first")
    assert own.wait().buffers is decoding

    running = own.submit(gate, "second")
    assert gate.is_reached.wait(TIMEOUT_S)
    assert running is not decoding
    own.lane.release(decoding)
    gate.open()
    assert own.wait().tag == "second"


def test_fill_and_engine_run_on_the_lanes_thread(make_lane):
    threads = []
    own = make_lane(run=lambda: threads.append(threading.current_thread()))
    own.submit(lambda _: threads.append(threading.current_thread()))
    own.wait()
    assert [thread.name for thread in threads] == ["lane:test", "lane:test"]


def test_done_is_called_after_the_batch_can_be_polled_and_the_lane_is_free():
    seen = []
    is_seen = threading.Event()

    def on_done():
        seen.append(([completed.tag for completed in lane.poll()], lane.acquire() is not None))
        is_seen.set()

    lane = HostLane([Buffers(0), Buffers(1)], on_done, "lane:test")
    lane.submit(lane.acquire(), lambda _: None, "tag")
    assert is_seen.wait(TIMEOUT_S)
    lane.close()
    assert seen == [(["tag"], True)]


@pytest.mark.parametrize("place", ["fill", "run"])
@pytest.mark.parametrize(
    ("raised", "kind"),
    [(DeviceLostError("gone"), DeviceLostError), (MemoryError(), ModelError), (KeyError("x"), ModelError)],
)
def test_an_exception_is_the_batchs_error_and_the_lane_lives_on(make_lane, place, raised, kind):
    failures = [raised]

    def fail(*_):
        if failures:
            raise failures.pop()

    own = make_lane(run=fail) if place == "run" else make_lane()
    own.lane.release(own.submit(*([fail] if place == "fill" else [])))
    error = own.wait().error
    assert type(error) is kind
    assert error is raised or error.__cause__ is raised

    own.submit()
    assert own.wait().error is None


def test_a_batch_whose_fill_failed_is_not_run(make_lane):
    runs = []
    own = make_lane(run=lambda: runs.append(1))

    def fail(buffers):
        raise ValueError

    own.submit(fail)
    own.wait()
    assert runs == []


def test_closing_waits_for_the_batch_in_flight_before_it_frees_the_buffers():
    gate = Gate()
    own = Lane()
    own.submit(gate)
    assert gate.is_reached.wait(TIMEOUT_S)
    closer = threading.Thread(target=own.lane.close)
    closer.start()

    assert not any(buffers.is_closed for buffers in own.sets)
    assert closer.is_alive()

    gate.open()
    closer.join(TIMEOUT_S)
    assert [completed.error for completed in own.lane.poll()] == [None]
    assert all(buffers.is_closed for buffers in own.sets)


def test_closing_ends_the_thread_and_the_count_of_lanes():
    live = HostLane.live.count
    gate = Gate()
    gate.open()
    own = Lane()
    assert HostLane.live.count == live + 1
    own.submit(gate)
    own.wait()

    own.lane.close()

    assert not gate.thread.is_alive()
    assert HostLane.live.count == live


def test_closing_twice_counts_once():
    live = HostLane.live.count
    own = Lane()
    own.lane.close()
    own.lane.close()
    assert HostLane.live.count == live


def test_a_lane_carries_many_batches_in_order(make_lane):
    own = make_lane()
    tags = []
    for tag in range(200):
        buffers = own.submit(tag=tag)
        tags.append(own.wait().tag)
        own.lane.release(buffers)
    assert tags == list(range(200))


@pytest.fixture
def make_short(monkeypatch):
    """Return a function that makes a lane whose last batches were short."""
    monkeypatch.setattr(host_lane, "SHORT_NS", 1 << 60)
    made = []

    def make(batches=SHORT_BATCHES, **options):
        own = Lane(**options)
        made.append(own)
        for _ in range(batches):
            own.lane.release(own.submit())
            own.wait()
        own.bell.silence()
        return own

    yield make
    for own in made:
        own.lane.close()


def rings(bell):
    """Count the rings that nobody has waited for."""
    return bell._rings._value


def run_short(own, fill=lambda _: None, tag=None):
    buffers = own.lane.acquire()
    completed = own.lane.run_short(buffers, fill, tag)
    own.lane.release(buffers)
    return completed


def test_after_short_batches_one_is_run_here(make_short):
    threads = []
    own = make_short(has_own_code=False, run=lambda: threads.append(threading.current_thread()))
    threads.clear()
    completed = run_short(own, lambda _: threads.append(threading.current_thread()), "tag")
    assert threads == [threading.current_thread()] * 2
    assert (completed.tag, completed.error) == ("tag", None)
    assert own.lane.poll() == []
    assert rings(own.bell) == 0


def test_a_lane_that_is_not_known_to_be_short_runs_nothing_here(make_short):
    assert run_short(make_short(SHORT_BATCHES - 1, has_own_code=False)) is None


def test_a_models_own_code_never_runs_here(make_short):
    assert run_short(make_short()) is None


def test_one_slow_batch_is_enough_to_run_none_here(make_short, monkeypatch):
    own = make_short(has_own_code=False)
    monkeypatch.setattr(host_lane, "SHORT_NS", 0)
    assert run_short(own) is not None
    assert run_short(own) is None


def test_a_batch_that_has_lost_its_core_meanwhile_is_still_short(make_short, monkeypatch):
    own = make_short(0, has_own_code=False, run=lambda: time.sleep(0.02))
    monkeypatch.setattr(host_lane, "SHORT_NS", 10_000_000)
    for _ in range(SHORT_BATCHES):
        own.lane.release(own.submit())
        own.wait()
    assert run_short(own) is not None


def test_the_error_of_a_short_batch_is_its_own(make_short):
    own = make_short(has_own_code=False)

    def fail(_):
        raise ValueError("broken")

    assert "broken" in str(run_short(own, fill=fail).error)
    assert run_short(own).error is None


def test_a_short_batch_is_refused_as_any_other(make_short):
    own, gate = make_short(has_own_code=False), Gate()
    first, second = own.lane.acquire(), own.lane.acquire()
    own.lane.submit(first, gate, None)
    with pytest.raises(BusyError, match="one batch at a time"):
        own.lane.run_short(second, gate, None)
    gate.open()
    own.wait()
    own.lane.close()
    with pytest.raises(ClosedError):
        own.lane.run_short(second, gate, None)


def test_a_lane_that_lacked_a_buffer_set_says_that_it_has_one(make_lane):
    own = make_lane()
    first, second = own.lane.acquire(), own.lane.acquire()
    own.lane.release(first)
    own.bell.wait()
    own.lane.release(second)
    assert rings(own.bell) == 0
