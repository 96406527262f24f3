from __future__ import annotations

import pytest

from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.limited_queue import limited
from edgert.schedule.queued import QueueLimits
from edgert.schedule.rate_limiter import RateLimiter
from edgert.schedule.request_queue import NO_LIMITS, RequestQueue
from edgert.schedule.sequence import SequencePolicy
from edgert.schedule.sequences import Sequences
from tests.fakes.lane import FakeLane
from tests.fakes.requests import make_group, make_queued, short
from tests.fakes.scheduling import SchedulerBench

MS = 1_000_000


class Port:
    """A ModelPort that gives buffers back at once; `on_complete` gets each batch."""

    is_driven = False

    def __init__(self, batcher, lanes, on_complete=lambda batch: None):
        self.batcher = batcher
        self.lanes = lanes
        self._on_complete = on_complete
        self._batches = {}

    def submit(self, lane, buffers, waiting):
        names = [getattr(item, "queued", item).request.name for item in waiting if item is not None]
        self._batches[buffers.index, id(lane)] = waiting
        lane.submit(buffers, lambda _: None, names)

    def complete(self, lane, completed):
        batch = self._batches.pop((completed.buffers.index, id(lane)))
        lane.release(completed.buffers)
        self._on_complete(batch)


class EmptyQueue:
    """Says that it is due and never gives anything."""

    is_awaited = True

    def __init__(self):
        self.asked = 0

    def is_due(self, now_ns):
        return True

    def due_ns(self, now_ns):
        return 0

    def take(self, now_ns):
        self.asked += 1
        return []


class CountingLane(FakeLane):
    """Counts what the scheduler does to it; wakes nobody."""

    acquired = 0

    def acquire(self):
        self.acquired += 1
        return super().acquire()


class Bench(SchedulerBench):
    """With queues of requests; `dropped` is what they refused."""

    def __init__(self):
        super().__init__()
        self.dropped = []

    def queue(self, limits=NO_LIMITS, **policy):
        return RequestQueue(BatchPolicy(**policy), self.on_drop, [limits])

    def on_drop(self, queued, error):
        self.dropped.append((self.clock.now_ns, queued.request.name, short(error)))

    def offer(self, queue, *names, **fields):
        for name in names:
            queue.offer(make_queued(name, **fields), self.clock.now_ns)
        self.look(queue)

    def look(self, queue):
        if queue.is_awaited:
            self.scheduler.wake()
        self.wakes.wait_until_asleep()


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.scheduler.stop()


def test_requests_go_to_lanes_in_batches(bench):
    lanes = bench.open_lanes(2)
    queue = bench.queue(max_batch=2)
    bench.add(Port(queue, lanes))
    bench.offer(queue, "a")
    bench.offer(queue, "b")
    bench.offer(queue, "c", "d", "e")
    assert [lane.running for lane in lanes] == [[["a"]], [["b"]]]
    bench.finish(lanes[1])
    assert lanes[1].running == [["c", "d"]]


def test_a_request_whose_time_is_up_is_answered_on_time_though_every_lane_is_busy(bench):
    [lane] = bench.open_lanes()
    queue = bench.queue(QueueLimits(timeout_ns=5 * MS), max_batch=1)
    bench.add(Port(queue, [lane]))
    bench.offer(queue, "runs")
    bench.advance(1 * MS)
    bench.offer(queue, "waits")
    assert not queue.is_awaited
    bench.offer(queue, "waits too")
    bench.advance(5 * MS - 1)
    assert bench.dropped == []
    bench.advance(1)
    assert [name for _, name, why in bench.dropped if why == "late"] == ["waits", "waits too"]
    assert {at_ns for at_ns, *_ in bench.dropped} == {6 * MS}
    assert lane.running == [["runs"]]


def test_a_delay_is_kept_and_ends_on_time(bench):
    [lane] = bench.open_lanes()
    queue = bench.queue(max_batch=4, delay_ns=5 * MS)
    bench.add(Port(queue, [lane]))
    bench.offer(queue, "a")
    assert bench.wakes.due_ns == 5 * MS
    bench.advance(5 * MS)
    assert lane.running == [["a"]]


def test_a_queue_that_is_due_but_gives_nothing_is_asked_once_a_look(bench):
    queue = EmptyQueue()
    lane = CountingLane()
    bench.add(Port(queue, [lane]))
    assert (queue.asked, bench.wakes.due_ns) == (1, None)
    bench.look(queue)
    assert (queue.asked, queue.is_awaited) == (2, True)


def test_lanes_for_which_nothing_is_left_are_not_bothered(bench):
    lanes = [CountingLane() for _ in range(3)]
    queue = bench.queue(max_batch=1)
    bench.add(Port(queue, lanes))
    bench.offer(queue, "a")
    assert [lane.acquired for lane in lanes] == [1, 0, 0]
    assert queue.is_awaited


# Sequences


def test_each_lane_runs_its_own_sequences_one_request_at_a_time(bench):
    lanes = bench.open_lanes(2)
    sequences = Sequences("adder", 2, SequencePolicy(), bench.on_drop)
    for queue, lane in zip(sequences.lanes, lanes, strict=True):
        bench.add(Port(queue, [lane], lambda turns, queue=queue: queue.complete(turns, bench.clock.now_ns)))
    for step in ("<1", "1>", "<2", "<3"):
        sequences.offer(make_queued(step, sequence=step), 0)
    bench.look(sequences)
    assert [lane.running for lane in lanes] == [[["<1"]], [["<2"]]]
    bench.finish(lanes[0])
    assert lanes[0].running == [["1>"]]
    bench.finish(lanes[0])
    assert [lane.running for lane in lanes] == [[["<3"]], [["<2"]]]


def test_the_scheduler_wakes_for_a_sequence_that_was_idle_for_too_long(bench):
    [lane] = bench.open_lanes()
    sequences = Sequences("adder", 1, SequencePolicy(idle_ns=5 * MS), bench.on_drop)
    [queue] = sequences.lanes
    bench.add(Port(queue, [lane], lambda turns: queue.complete(turns, bench.clock.now_ns)))
    sequences.offer(make_queued("<1", sequence="<1"), 0)
    bench.look(sequences)
    bench.finish(lane)
    sequences.offer(make_queued("<2", sequence="<2"), 0)
    bench.look(sequences)
    assert lane.running == []
    bench.advance(5 * MS)
    assert lane.running == [["<2"]]


# Limited


def limited_port(view, lanes):
    return Port(view, lanes, lambda batch: view.done())


def test_two_models_take_turns_at_one_resource(bench):
    groups = [make_group(name, r=1) for name in "ab"]
    limiter = RateLimiter(bench.scheduler.wake)
    queues, lanes = [], []
    for group in groups:
        limiter.add(group)
        queues.append(bench.queue(max_batch=1))
        lanes += bench.open_lanes()
        [view] = limited(queues[-1], limiter, [group])
        bench.add(limited_port(view, [lanes[-1]]))
    bench.offer(queues[0], "a0", "a1", "a2")
    bench.offer(queues[1], "b0", "b1")
    ran = []
    for _ in range(5):
        assert sum(len(lane.running) for lane in lanes) == 1
        [busy] = [lane for lane in lanes if lane.running]
        ran += busy.running[0]
        bench.finish(busy)
    assert ran == ["a0", "b0", "a1", "b1", "a2"]
    assert not any(group.running for group in groups)


def test_groups_of_one_model_share_its_queue_and_either_may_be_awaited(bench):
    groups = [make_group("big", r=2), make_group("small", s=1)]
    limiter = RateLimiter(bench.scheduler.wake)
    for group in groups:
        limiter.add(group)
    queue = bench.queue(max_batch=1)
    lanes = bench.open_lanes(2)
    for view, lane in zip(limited(queue, limiter, groups), lanes, strict=True):
        bench.add(limited_port(view, [lane]))
    bench.offer(queue, "a")
    assert queue.is_awaited
    bench.offer(queue, "b")
    assert [lane.running for lane in lanes] == [[["a"]], [["b"]]]
    bench.offer(queue, "c")
    bench.finish(lanes[1])
    assert lanes[1].running == [["c"]]


def test_a_queue_is_awaited_while_any_of_its_groups_awaits_it(bench):
    queue = bench.queue()
    first, second = limited(queue, RateLimiter(bench.scheduler.wake), [make_group("a"), make_group("b")])
    second.is_awaited = False
    assert queue.is_awaited
    first.is_awaited = False
    assert not queue.is_awaited


def test_a_request_that_goes_elsewhere_does_not_keep_the_resource_from_others(bench):
    """Both groups of a model want its one request; the one that was refused no longer waits then."""
    limiter = RateLimiter(bench.scheduler.wake)
    holder, scarce, plenty, other = (
        make_group("holder", r=1),
        make_group("scarce", r=2),
        make_group("plenty", s=1),
        make_group("other", r=1),
    )
    for group in (holder, scarce, plenty, other):
        limiter.add(group)
    assert limiter.try_acquire(holder)
    shared, own = bench.queue(max_batch=1), bench.queue(max_batch=1)
    lanes = bench.open_lanes(3)
    views = (*limited(shared, limiter, [scarce, plenty]), *limited(own, limiter, [other]))
    bench.add(*(limited_port(view, [lane]) for view, lane in zip(views, lanes, strict=True)))
    shared.offer(make_queued("a"), 0)
    own.offer(make_queued("b"), 0)
    bench.look(own)
    assert [lane.running for lane in lanes] == [[], [["a"]], [["b"]]]


def test_requests_that_time_out_let_others_have_what_they_waited_for(bench):
    limiter = RateLimiter(bench.scheduler.wake)
    large, small = make_group("large", r=2), make_group("small", r=1)
    for group in (large, small):
        limiter.add(group)
    queues = [bench.queue(QueueLimits(timeout_ns=5 * MS), max_batch=1), bench.queue(max_batch=1)]
    lanes = [bench.open_lanes(), bench.open_lanes(2)]
    for queue, group, own in zip(queues, (large, small), lanes, strict=True):
        bench.add(limited_port(limited(queue, limiter, [group])[0], own))
    bench.offer(queues[1], "s0")
    bench.offer(queues[0], "l0")
    bench.offer(queues[1], "s1")
    assert [lane.running for lane in lanes[1]] == [[["s0"]], []]
    bench.advance(5 * MS)
    assert bench.dropped == [(5 * MS, "l0", "late")]
    assert [lane.running for lane in lanes[1]] == [[["s0"]], [["s1"]]]


# Idle


def test_it_is_idle_while_it_sleeps_and_nobody_has_woken_it(bench):
    bench.add(Port(bench.queue(max_batch=1), bench.open_lanes()))
    assert bench.scheduler.is_idle
    seen = []
    bench.scheduler.between_batches(lambda: (bench.scheduler.wake(), seen.append(bench.scheduler.is_idle)))
    assert seen == [False]
    bench.wakes.wait_until_asleep()
    assert bench.scheduler.is_idle
