from __future__ import annotations

import sys
import threading

import pytest

from edgert.schedule.scheduler import Scheduler
from edgert.schedule.turns import LONG_TURN_S
from tests.fakes.frames import make_frame
from tests.fakes.lane import FakeLane
from tests.fakes.scheduling import FakeModel, SchedulerBench

MS = 1_000_000
TIMEOUT_S = 10.0


class Bench(SchedulerBench):
    """With models of frames."""

    def model(self, *lanes, **policy):
        model = FakeModel(lanes, **policy)
        self.add(model)
        return model

    def offer(self, model, count=1):
        model.offer(count, self.clock.now_ns)
        if model.batcher.is_awaited:
            self.scheduler.wake()
        self.wakes.wait_until_asleep()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.scheduler.stop()


# When


def test_an_idle_lane_gets_a_frame_at_once(bench):
    [lane] = bench.open_lanes()
    bench.offer(bench.model(lane, max_batch=8))
    assert lane.running == [[0]]


def test_sleeps_without_a_time_limit_when_nothing_waits(bench):
    [lane] = bench.open_lanes()
    bench.model(lane, max_batch=8, delay_ns=5 * MS)
    assert bench.wakes.due_ns is None


def test_a_batch_that_completes_makes_room_for_those_that_waited(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=2)
    bench.offer(model, 4)
    assert lane.running == [[0, 1]]

    bench.finish(lane)

    assert model.completed == [[0, 1]]
    assert lane.running == [[2, 3]]


def test_a_buffer_set_that_decoding_gives_back_is_used_at_once(bench):
    [lane] = bench.open_lanes(sets=1)
    held = lane.acquire()
    model = bench.model(lane)
    bench.offer(model)
    assert lane.running == []

    lane.release(held)
    bench.wakes.wait_until_asleep()

    assert lane.running == [[0]]


def test_an_incomplete_batch_goes_exactly_when_its_delay_is_over(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=4, delay_ns=5 * MS)
    bench.advance(1 * MS)
    bench.offer(model)
    assert bench.wakes.due_ns == 6 * MS

    bench.advance(5 * MS - 1)
    assert lane.running == []
    bench.advance(1)
    assert lane.running == [[0]]
    assert bench.wakes.due_ns is None


def test_frames_that_complete_a_batch_end_the_delay(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=2, delay_ns=5 * MS)
    bench.offer(model)
    bench.offer(model)
    assert lane.running == [[0, 1]]


def test_sleeps_until_the_first_of_several_delays(bench):
    slow, fast = (
        bench.model(*bench.open_lanes(), max_batch=2, delay_ns=9 * MS),
        bench.model(*bench.open_lanes(), max_batch=2, delay_ns=4 * MS),
    )
    bench.offer(slow)
    bench.offer(fast)
    assert bench.wakes.due_ns == 4 * MS
    bench.advance(4 * MS)
    assert fast.lanes[0].running == [[0]]
    assert bench.wakes.due_ns == 9 * MS


def test_does_not_spin_while_due_frames_wait_for_a_lane(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=2, delay_ns=5 * MS)
    bench.offer(model, 2)
    bench.offer(model)
    bench.advance(6 * MS)
    assert bench.wakes.due_ns is None  # the lane's completion will wake it
    bench.finish(lane)
    assert lane.running == [[2]]


def test_a_model_awaits_frames_only_while_a_lane_would_take_one(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=1)
    assert model.batcher.is_awaited
    bench.offer(model)
    assert model.batcher.is_awaited
    bench.offer(model)
    assert not model.batcher.is_awaited
    bench.offer(model)  # wakes nobody
    bench.finish(lane)
    bench.finish(lane)
    assert lane.running == [[2]]
    assert model.batcher.is_awaited


def test_a_frame_that_comes_just_after_the_look_is_not_left_waiting(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=1)
    bench.offer(model, 2)
    model.batcher.drop_all("draining")
    assert not model.batcher.is_awaited
    look, late_frames = model.batcher.is_due, [1]

    def look_then_offer(now_ns):
        is_due = look(now_ns)
        if not is_due and late_frames:
            model.offer(late_frames.pop())
            if model.batcher.is_awaited:
                bench.scheduler.wake()
        return is_due

    model.batcher.is_due = look_then_offer
    model.complete = lambda *_: None  # decoding takes long: no released buffer set wakes the scheduler again
    bench.finish(lane)
    assert lane.running == [[2]]


# Where


def test_every_lane_gets_a_batch_before_one_gets_two(bench):
    lanes = bench.open_lanes(3, in_flight=2)
    bench.offer(bench.model(*lanes, max_batch=1), 5)
    assert [lane.running for lane in lanes] == [[[0], [3]], [[1], [4]], [[2]]]


def test_the_lane_that_is_free_gets_the_next_batch(bench):
    first, second = bench.open_lanes(2)
    model = bench.model(first, second, max_batch=1)
    bench.offer(model, 3)
    bench.finish(second)
    assert (first.running, second.running) == ([[0]], [[2]])


def test_frames_keep_their_order_on_their_way_to_the_lanes(bench):
    lanes = bench.open_lanes(2)
    model = bench.model(*lanes, max_batch=2)
    bench.offer(model, 9)
    while any(lane.running for lane in lanes):
        for lane in lanes:
            if lane.running:
                bench.finish(lane)
    assert [seq for batch in model.completed for seq in batch] == list(range(9))


def test_a_busy_model_does_not_hold_up_another(bench):
    busy, calm = (bench.model(*bench.open_lanes(), max_batch=1) for _ in range(2))
    bench.offer(busy, 5)
    bench.offer(calm, 1)
    assert calm.lanes[0].running == [[0]]


# Adding, removing, stopping


def test_frames_that_wait_for_a_model_go_when_it_is_added(bench):
    [lane] = bench.open_lanes()
    model = FakeModel([lane], max_batch=4)
    model.offer(2)
    bench.scheduler.add(model)
    bench.wakes.wait_until_asleep()
    assert lane.running == [[0, 1]]


def test_a_removed_model_is_not_looked_at_again(bench):
    [lane] = bench.open_lanes()
    removed, kept = bench.model(lane), bench.model(*bench.open_lanes())
    bench.scheduler.remove(removed)
    removed.offer()
    bench.offer(kept)
    assert lane.running == []
    assert kept.lanes[0].running == [[0]]


def test_removing_waits_for_the_look_that_is_under_way(bench):
    is_looking, may_go_on, is_removed = threading.Event(), threading.Event(), threading.Event()
    model = bench.model(*bench.open_lanes())

    def hold(lane, buffers, waiting):
        is_looking.set()
        assert may_go_on.wait(TIMEOUT_S)
        lane.release(buffers)

    model.submit = hold
    model.offer()
    bench.scheduler.wake()
    assert is_looking.wait(TIMEOUT_S)

    def remove():
        bench.scheduler.remove(model)
        is_removed.set()

    remover = threading.Thread(target=remove)
    remover.start()
    assert not is_removed.wait(0.02)
    may_go_on.set()
    assert is_removed.wait(TIMEOUT_S)
    remover.join()


def test_a_question_between_batches_is_answered(bench):
    assert bench.scheduler.between_batches(lambda: 42) == 42


def test_a_scheduler_that_was_never_started_can_be_stopped():
    scheduler = Scheduler()
    scheduler.wake()
    scheduler.stop()
    assert not scheduler.thread.is_alive()


def test_stopping_ends_the_thread_whether_asleep_or_awake():
    for is_woken in (True, False):
        scheduler = Scheduler()
        scheduler.start()
        if is_woken:
            scheduler.wake()
        scheduler.stop()
        assert not scheduler.thread.is_alive()


# With the real clock and queue


class InstantLane(FakeLane):
    """Completes within `submit`."""

    def submit(self, buffers, fill, tag, on_read=lambda: None):
        super().submit(buffers, fill, tag, on_read)
        self.finish()


@pytest.fixture
def running():
    """A scheduler among threads that take turns as quickly as they can."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()
    sys.setswitchinterval(interval_s)


def offer_and_wake(scheduler, model, seq):
    assert model.batcher.offer(model.route, make_frame(seq=seq), 0)
    if model.batcher.is_awaited:
        scheduler.wake()


def run_threads(count, target):
    threads = [threading.Thread(target=target, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert not any(thread.is_alive() for thread in threads)


def test_no_wake_is_lost_when_every_frame_waits_for_the_one_before(running):
    """Each thread offers a frame only after its last one came back: one lost wake stops it for good."""
    model = FakeModel([InstantLane(running.wake) for _ in range(2)], max_batch=3)
    running.add(model)
    back = [threading.Semaphore(0) for _ in range(4)]
    model.on_complete = lambda tag: [back[index].release() for index in tag]

    def ping(index):
        for _ in range(300):
            offer_and_wake(running, model, index)
            assert back[index].acquire(timeout=TIMEOUT_S)

    run_threads(4, ping)
    assert sum(map(len, model.completed)) == 1200


def test_every_frame_of_many_threads_completes_once(running):
    model = FakeModel([InstantLane(running.wake) for _ in range(3)], max_batch=4)
    running.add(model)
    seen = []
    is_done = threading.Event()

    def count(tag):
        seen.extend(tag)
        if len(seen) == 2000:
            is_done.set()

    def offer(index):
        for number in range(500):
            offer_and_wake(running, model, index * 500 + number)

    model.on_complete = count
    run_threads(4, offer)
    assert is_done.wait(TIMEOUT_S)
    assert sorted(seen) == list(range(2000))


def test_batches_are_submitted_in_a_long_turn_and_the_next_turns_are_short(running):
    is_done, seen = threading.Event(), []
    model = FakeModel([InstantLane(running.wake)])
    model.on_complete = lambda _: (seen.append(sys.getswitchinterval()), is_done.set())
    running.add(model)
    offer_and_wake(running, model, 0)
    assert is_done.wait(TIMEOUT_S)
    running.stop()
    assert seen == [pytest.approx(LONG_TURN_S)]
    assert sys.getswitchinterval() == pytest.approx(5e-6)


def test_a_delay_is_kept_with_the_real_clock(running):
    is_done = threading.Event()
    model = FakeModel([InstantLane(running.wake)], max_batch=8, delay_ns=2 * MS)
    model.on_complete = lambda _: is_done.set()
    running.add(model)
    now_ns = running._clock()
    model.offer(1, now_ns)
    running.wake()
    assert is_done.wait(TIMEOUT_S)
    assert running._clock() - now_ns >= 2 * MS


# A host lane that feeds itself


def test_a_look_on_the_callers_thread_needs_no_scheduler_thread():
    scheduler = Scheduler()
    lane = FakeLane(scheduler.look_now)
    model = FakeModel([lane])
    scheduler.add(model)
    model.offer(2)
    scheduler.look_now()
    lane.finish()  # its on_done looks, collects and submits the next
    lane.finish()
    assert model.completed == [[0], [1]]


def test_a_look_while_another_looks_is_left_to_the_scheduler(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane)
    model.offer(1)
    bench.scheduler.between_batches(bench.scheduler.look_now)  # the lock is held by the caller
    bench.wakes.wait_until_asleep()
    bench.finish(lane)
    assert model.completed == [[0]]


def test_a_look_that_finds_an_incomplete_batch_lets_the_scheduler_wait_for_its_time(bench):
    [lane] = bench.open_lanes()
    model = bench.model(lane, max_batch=4, delay_ns=5 * MS)
    model.offer(1, bench.clock.now_ns)
    bench.scheduler.look_now()
    bench.wakes.wait_until_asleep()
    bench.advance(5 * MS)
    bench.finish(lane)
    assert model.completed == [[0]]
