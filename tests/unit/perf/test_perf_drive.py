"""The thread that drives the lanes, on a clock that its own waiting moves."""

from __future__ import annotations

import pytest

from edgert.errors import ModelError
from edgert.execute.engine import DeviceTimes
from edgert.perf.drive import DRAIN_NS, Drive
from edgert.perf.load import ClosedLoad, OpenLoad
from edgert.perf.measure import figures_of
from edgert.perf.options import Level, Window
from tests.unit.perf.paced import MS, PacedLane, make_clock, open_rig

SECOND = Window(0, 1_000 * MS, 1)


@pytest.fixture
def clock():
    return make_clock()


def drive(clock, load, *lanes, window=SECOND, is_stopping=lambda: False, **rig):
    """Drive the lanes; all their buffer sets are free afterwards."""
    driven = Drive(open_rig(clock, *lanes, **rig), load, is_stopping, clock).run(window)
    for lane in lanes:
        assert not lane.running
        assert len(lane._free) == len(lane._sets)
        lane.close()
    return driven


def responses_ms(driven):
    return [each.response_ms for each in driven.samples]


# Closed loop


def test_one_request_at_a_time_takes_what_the_lane_takes(clock):
    driven = drive(clock, ClosedLoad(1), PacedLane(clock, 10 * MS))
    assert responses_ms(driven) == pytest.approx([10.0] * len(driven.samples), abs=0.01)
    assert figures_of(Level("concurrency", 1), 1, driven.samples).throughput_per_s == pytest.approx(100, 0.01)


def test_more_requests_than_the_lane_takes_wait_for_each_other(clock):
    lane = PacedLane(clock, 10 * MS)
    driven = drive(clock, ClosedLoad(5), lane)
    assert lane.most_in_flight == 2
    settled = responses_ms(driven)[5:-5]
    assert settled == pytest.approx([50.0] * len(settled), abs=0.1)  # Little: 5 outstanding, 100 a second
    assert driven.unserved_ms == ()


def test_requests_go_to_the_lane_with_least_to_do(clock):
    lanes = [PacedLane(clock, 10 * MS) for _ in range(3)]
    drive(clock, ClosedLoad(3), *lanes)
    assert [lane.most_in_flight for lane in lanes] == [1, 1, 1]
    assert max(lane.batches for lane in lanes) - min(lane.batches for lane in lanes) <= 1


def test_a_slow_lane_gets_fewer_requests(clock):
    quick, slow = PacedLane(clock, 10 * MS), PacedLane(clock, 100 * MS)
    drive(clock, ClosedLoad(2), quick, slow)
    assert quick.batches > 8 * slow.batches


def test_every_request_gets_the_next_fill(clock):
    filled = []
    fills = iter(range(1000))

    def next_fill():
        number = next(fills)
        return lambda buffers: (buffers.inputs({"x": (1, 4)}), filled.append(number))

    driven = drive(clock, ClosedLoad(2), PacedLane(clock, 10 * MS), next_fill=next_fill)
    assert filled == list(range(len(driven.samples)))


# Open loop


def test_requests_that_come_slowly_do_not_wait(clock):
    driven = drive(clock, OpenLoad(50.0, "constant", 0), PacedLane(clock, 10 * MS))
    assert len(driven.samples) in (49, 50)
    assert responses_ms(driven) == pytest.approx([10.0] * len(driven.samples), abs=0.01)


def test_a_request_that_comes_while_the_thread_works_does_not_wait_either():
    """A request may become due between any two looks at the clock."""
    clock = make_clock(call_ns=1_000)
    driven = drive(clock, OpenLoad(200.0, "poisson", 1), PacedLane(clock, 100_000))
    assert max(responses_ms(driven)) < 5


def test_waiting_counts_from_when_a_request_was_due(clock):
    """One batch of 200 ms holds up 20 requests: each of them has waited, not the first alone."""
    driven = drive(clock, OpenLoad(100.0, "constant", 0), PacedLane(clock, 200 * MS, 1 * MS))
    slow = [ms for ms in responses_ms(driven) if ms > 5]
    assert slow == pytest.approx([200.0 - 9.0 * index for index in range(len(slow))], abs=0.1)
    assert len(slow) == 22
    served = [each.finished_ns - each.started_ns for each in driven.samples]
    assert sum(took > 5 * MS for took in served) == 1  # what a closed loop would have told


def test_too_many_requests_are_counted_with_what_they_had_waited(clock):
    load = OpenLoad(300.0, "constant", 0)
    driven = drive(clock, load, PacedLane(clock, 10 * MS))
    figures = figures_of(Level("rate", 300), 1, driven.samples, driven.unserved_ms)
    assert figures.throughput_per_s == pytest.approx(100, rel=0.02)
    assert len(driven.samples) + len(driven.unserved_ms) in (299, 300)
    assert min(driven.unserved_ms) >= DRAIN_NS / MS
    assert figures.response.max_ms == pytest.approx(1330, rel=0.02)  # the one that came after 0.67 s


def test_a_queue_that_is_short_is_served_to_its_end(clock):
    driven = drive(clock, OpenLoad(150.0, "constant", 0), PacedLane(clock, 10 * MS))
    assert driven.unserved_ms == ()
    assert len(driven.samples) in (149, 150)


def test_poisson_requests_wait_as_the_theory_says(clock):
    """M/D/1 at half load: the mean wait is rho / (2 (1 - rho)) of a service, Pollaczek and Khinchine."""
    window = Window(0, 60_000 * MS, 1)
    driven = drive(clock, OpenLoad(50.0, "poisson", 1), PacedLane(clock, 10 * MS), window=window)
    assert sum(responses_ms(driven)) / len(driven.samples) == pytest.approx(15.0, rel=0.05)


# Warm-up and end


def test_what_begins_during_the_warm_up_is_run_and_not_counted(clock):
    began, lane = clock(), PacedLane(clock, 10 * MS)
    driven = drive(clock, ClosedLoad(1), lane, window=Window(200 * MS, 1_000 * MS, 1))
    assert min(each.started_ns for each in driven.samples) >= began + 200 * MS
    assert len(driven.samples) == pytest.approx(100, abs=1)
    assert lane.batches == pytest.approx(120, abs=1)


def test_a_queue_from_the_warm_up_does_not_put_the_end_off(clock):
    """Far too many requests: those that are served all came during the warm-up, and count all the same."""
    began, window = clock(), Window(500 * MS, 500 * MS, 3)
    driven = drive(clock, OpenLoad(1000.0, "constant", 0), PacedLane(clock, 200 * MS), window=window)
    assert clock() < began + 3_000 * MS
    assert len(driven.samples) == pytest.approx(7, abs=3)
    assert min(responses_ms(driven)) > 500
    assert len(driven.unserved_ms) > 980


def test_a_slow_engine_still_gives_as_many_samples_as_asked_for(clock):
    window = Window(0, 100 * MS, 7)
    driven = drive(clock, ClosedLoad(1), PacedLane(clock, 1_000 * MS), window=window)
    assert len(driven.samples) in (7, 8)  # when the seventh was done, the eighth had begun


def test_asked_to_stop_it_ends_with_what_it_has(clock):
    until = clock() + 305 * MS
    driven = drive(clock, ClosedLoad(2), PacedLane(clock, 10 * MS), is_stopping=lambda: clock() >= until)
    assert driven.is_interrupted
    assert len(driven.samples) in (31, 32)
    assert clock() < until + 30 * MS


def test_asked_to_stop_before_anything_is_done(clock):
    driven = drive(clock, ClosedLoad(2), PacedLane(clock, 10 * MS), is_stopping=lambda: True)
    assert driven.samples == ()
    assert clock() == make_clock()()


def test_asked_to_stop_it_does_not_serve_what_waits(clock):
    until = clock() + 500 * MS
    lane = PacedLane(clock, 10 * MS)
    driven = drive(clock, OpenLoad(1000.0, "constant", 0), lane, is_stopping=lambda: clock() >= until)
    assert len(driven.samples) == pytest.approx(51, abs=2)
    assert len(driven.unserved_ms) == pytest.approx(449, abs=3)


def test_a_failed_batch_ends_the_run_with_its_error(clock):
    lane = PacedLane(clock, 10 * MS)
    fills = iter([lambda buffers: buffers.inputs({"x": (1, 4)}), lambda buffers: 1 / 0])
    with pytest.raises(ModelError, match="division by zero"):
        drive(clock, ClosedLoad(1), lane, next_fill=lambda: next(fills))
    lane.close()


# What is told of a request


def test_a_device_tells_its_own_times(clock):
    lane = PacedLane(clock, 10 * MS, device=DeviceTimes(1.0, 7.0, 2.0))
    driven = drive(clock, ClosedLoad(1), lane, is_driven=True)
    one = driven.samples[0]
    assert (one.fill_ms, one.compute_ms, one.fetch_ms, one.latency_ms) == (1.0, 7.0, 2.0, 10.0)


def test_without_a_device_the_host_tells(clock):
    one = drive(clock, ClosedLoad(1), PacedLane(clock, 10 * MS)).samples[0]
    assert (one.fill_ms, one.compute_ms, one.fetch_ms) == (0.0, 10.0, 0.0)


@pytest.mark.parametrize(("is_driven", "enqueue_ms"), [(False, 3.0), (True, 2.0)])
def test_enqueue_is_the_submitting_threads_time_without_its_copies(clock, is_driven, enqueue_ms):
    class Slow(PacedLane):
        """A device lane's submit: a millisecond of fill, then two of the engine."""

        def submit(self, *arguments):
            clock.advance(1 * MS)
            super().submit(*arguments)  # the batch begins, filled, here
            clock.advance(2 * MS)

    one = drive(clock, ClosedLoad(1), Slow(clock, 10 * MS), is_driven=is_driven).samples[0]
    assert one.enqueue_ms == enqueue_ms
