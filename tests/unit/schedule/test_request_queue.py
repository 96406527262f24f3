from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgert.errors import ClosedError, UnavailableError
from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.deadlines import SPARE, Deadlines
from edgert.schedule.queued import QueueLimits
from edgert.schedule.request_queue import RequestQueue
from tests.fakes.requests import make_queued, short

MS = 1_000_000


class Desk:
    """A request queue whose requests are known by their names."""

    def __init__(self, *levels, default_level=1, **policy):
        self.dropped = []
        self.queued = {}
        self.queue = RequestQueue(
            BatchPolicy(**policy), self._on_drop, levels or (QueueLimits(),), default_level
        )

    def offer(self, names, now_ns=0, **fields):
        for name in names.split():
            self.queued[name] = make_queued(name, **fields)
            self.queue.offer(self.queued[name], now_ns)

    def cancel(self, name):
        self.queued[name].request.is_cancelled = True

    def take(self, now_ns=0):
        is_due = self.queue.is_due(now_ns)
        batch = " ".join(queued.request.name for queued in self.queue.take(now_ns))
        assert is_due == bool(batch)
        return batch

    def take_all(self, now_ns=0):
        batches = []
        while batch := self.take(now_ns):
            batches.append(batch)
        return batches

    def _on_drop(self, queued, error):
        self.queue.due_ns()  # would hang if drops were reported inside the lock
        self.dropped.append((queued.request.name, short(error)))


def test_nothing_waits_nothing_goes():
    desk = Desk(max_batch=8)
    assert (desk.take(), desk.queue.due_ns(), desk.queue.waiting) == ("", None, 0)


def test_without_delay_a_single_request_goes_at_once():
    desk = Desk(max_batch=8)
    desk.offer("a")
    assert desk.queue.waiting == 1
    assert desk.take() == "a"
    assert desk.queue.waiting == 0


# Rows


def test_rows_add_up_to_the_largest_batch():
    desk = Desk(max_batch=4)
    desk.offer("a b", rows=2)
    desk.offer("c", rows=1)
    assert desk.take_all() == ["a b", "c"]


def test_a_request_that_is_larger_than_what_is_left_ends_the_batch_and_lets_it_go_at_once():
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a", rows=3)
    assert desk.take() == ""
    desk.offer("b", rows=2)
    assert desk.queue.due_ns() == 0
    assert desk.take() == "a"
    assert desk.take() == ""
    assert desk.take(5 * MS) == "b"


def test_a_request_that_fits_does_not_overtake_one_that_does_not():
    desk = Desk(max_batch=4)
    desk.offer("a", rows=3)
    desk.offer("b", rows=2)
    desk.offer("c", rows=1)
    assert desk.take_all() == ["a", "b c"]


def test_requests_of_different_keys_never_share_a_batch():
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a b", key=(3, 8))
    desk.offer("c", key=(3, 9))
    desk.offer("d", key=(3, 8))
    assert desk.take_all() == ["a b", "c"]
    assert desk.take(5 * MS) == "d"


# Delay and preferred sizes


def test_an_incomplete_batch_goes_when_its_oldest_request_has_waited_for_the_delay():
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a", 1 * MS)
    desk.offer("b", 3 * MS)
    assert desk.take(6 * MS - 1) == ""
    assert desk.queue.due_ns() == 6 * MS
    assert desk.take(6 * MS) == "a b"


def test_a_full_batch_ends_the_delay():
    desk = Desk(max_batch=2, delay_ns=5 * MS)
    desk.offer("a b c")
    assert desk.take_all() == ["a b"]


def test_the_largest_preferred_size_that_the_first_requests_add_up_to_goes_at_once():
    desk = Desk(max_batch=8, preferred=(2, 4), delay_ns=5 * MS)
    desk.offer("a b c d e")
    assert desk.take_all() == ["a b c d"]
    assert desk.take(5 * MS) == "e"


def test_a_preferred_size_that_rows_miss_is_not_sent():
    desk = Desk(max_batch=8, preferred=(4,), delay_ns=5 * MS)
    desk.offer("a", rows=3)
    desk.offer("b", rows=2)
    assert desk.take() == ""
    assert desk.take(5 * MS) == "a b"


def test_hurrying_ends_every_delay():
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a b")
    desk.queue.hurry()
    assert desk.take() == "a b"


# Levels


def test_levels_go_strictly_by_priority_and_in_order_of_coming():
    desk = Desk(QueueLimits(), QueueLimits(), QueueLimits(), max_batch=2)
    desk.offer("low0 low1", priority=3)
    desk.offer("high0 high1 high2", priority=1)
    desk.offer("mid", priority=2)
    assert desk.take_all() == ["high0 high1", "high2 mid", "low0 low1"]


def test_a_priority_that_no_level_has_is_the_default_one():
    desk = Desk(QueueLimits(), QueueLimits(), QueueLimits(), default_level=2, max_batch=1)
    desk.offer("low", priority=3)
    desk.offer("none", priority=0)
    desk.offer("nine", priority=9)
    desk.offer("high", priority=1)
    assert desk.take_all() == ["high", "none", "nine", "low"]


def test_a_higher_priority_that_comes_during_the_delay_goes_with_the_batch_that_waits():
    desk = Desk(QueueLimits(), QueueLimits(), max_batch=3, delay_ns=5 * MS)
    desk.offer("low0 low1", 1 * MS, priority=2)
    assert desk.take(1 * MS) == ""
    desk.offer("high", 2 * MS, priority=1)
    assert desk.take(2 * MS) == "high low0 low1"


def test_a_higher_priority_of_another_key_sends_the_batch_back_in_its_order():
    desk = Desk(QueueLimits(), QueueLimits(), max_batch=3, delay_ns=5 * MS)
    desk.offer("low0 low1", priority=2)
    assert desk.take() == ""
    desk.offer("high", 1 * MS, priority=1, key="other")
    assert desk.take(1 * MS) == "high"
    assert desk.take(5 * MS) == "low0 low1"


# Limits


def test_a_full_level_refuses_with_the_servers_text():
    desk = Desk(QueueLimits(max_size=2), QueueLimits(), max_batch=1)
    desk.offer("a b", priority=1)
    with pytest.raises(UnavailableError, match=r"^Exceeds maximum queue size$"):
        desk.offer("c", priority=1)
    desk.offer("d", priority=2)
    assert desk.take() == "a"
    desk.offer("e", priority=1)
    assert (desk.take_all(), desk.dropped) == (["b", "e", "d"], [])


def test_a_request_whose_time_is_up_is_rejected_though_no_lane_takes_it():
    desk = Desk(QueueLimits(timeout_ns=5 * MS, max_size=1), max_batch=1)
    desk.offer("a", 1 * MS)
    assert desk.queue.due_ns(now_ns=1 * MS) == 6 * MS  # that it is due already does not hide its timeout
    assert desk.queue.is_due(6 * MS - 1)
    assert not desk.queue.is_due(6 * MS)
    assert (desk.dropped, desk.queue.waiting) == ([("a", "late")], 0)
    desk.offer("b", 6 * MS)


def test_a_batch_that_waits_loses_the_request_whose_time_is_up():
    desk = Desk(QueueLimits(allows_override=True), max_batch=4, delay_ns=9 * MS)
    desk.offer("a")
    desk.offer("b", timeout_ns=2 * MS)
    desk.offer("c")
    assert desk.take(1 * MS) == ""
    assert desk.queue.due_ns(1 * MS) == 2 * MS
    assert desk.take(2 * MS) == ""
    assert desk.dropped == [("b", "late")]
    assert desk.take(9 * MS) == "a c"


def test_a_delayed_request_goes_after_all_others_of_its_level_but_before_lower_ones():
    delaying = QueueLimits(timeout_ns=5 * MS, on_timeout="delay")
    desk = Desk(delaying, delaying, max_batch=1)
    desk.offer("a b", priority=1)
    desk.offer("low", 1 * MS, priority=2)
    assert desk.queue.is_due(5 * MS)
    desk.offer("c", 5 * MS, priority=1)
    assert desk.take_all(5 * MS) == ["c", "a", "b", "low"]
    assert desk.dropped == []


@pytest.mark.parametrize(
    ("limits", "wish_ns", "timeout_ns"),
    [
        (QueueLimits(), 7, 0),
        (QueueLimits(timeout_ns=5), 3, 5),
        (QueueLimits(timeout_ns=5, allows_override=True), 3, 3),
        (QueueLimits(timeout_ns=5, allows_override=True), 7, 5),
        (QueueLimits(timeout_ns=5, allows_override=True), 0, 5),
        (QueueLimits(allows_override=True), 7, 7),
    ],
)
def test_a_wish_can_only_shorten_a_timeout_where_that_is_allowed(limits, wish_ns, timeout_ns):
    assert limits.timeout_of(wish_ns) == timeout_ns


# Cancelling, closing


def test_cancelled_requests_are_dropped_when_they_are_met():
    desk = Desk(max_batch=2, delay_ns=5 * MS)
    desk.offer("a b c d")
    desk.cancel("a")
    assert desk.take() == "b c"
    desk.offer("e")
    desk.cancel("d")
    assert desk.take(5 * MS) == "e"
    assert desk.dropped == [("a", "cancelled"), ("d", "cancelled")]


def test_a_request_of_a_formed_batch_that_is_cancelled_meanwhile_does_not_run():
    desk = Desk(max_batch=2, delay_ns=5 * MS)
    desk.offer("a")
    assert desk.take() == ""
    desk.cancel("a")
    assert desk.queue.take(5 * MS) == []
    assert (desk.dropped, desk.queue.waiting) == ([("a", "cancelled")], 0)


def test_a_closed_queue_refuses_and_lets_those_that_wait_go_at_once():
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a b")
    desk.queue.close()
    with pytest.raises(UnavailableError, match="stopped accepting"):
        desk.offer("c")
    assert desk.take_all() == ["a b"]


def test_dropping_all_answers_each_once_in_order_and_forgets_their_timeouts():
    desk = Desk(QueueLimits(timeout_ns=5 * MS), QueueLimits(), max_batch=4, delay_ns=9 * MS)
    desk.offer("low", priority=2)
    desk.offer("a b", priority=1)
    assert desk.take() == ""
    desk.queue.drop_all(ClosedError("unloaded"))
    assert desk.dropped == [("a", "unloaded"), ("b", "unloaded"), ("low", "unloaded")]
    assert (desk.take(10 * MS), len(desk.dropped), desk.queue.waiting) == ("", 3, 0)


def test_a_request_that_has_gone_is_not_kept_until_its_time_is_up():
    desk = Desk(QueueLimits(timeout_ns=1000 * MS), max_batch=1)
    queued = make_queued("a")
    request = weakref.ref(queued.request)
    desk.queue.offer(queued, 0)
    desk.queue.take(0)
    del queued
    gc.collect()
    assert request() is None


def test_deadlines_of_requests_that_have_gone_do_not_pile_up():
    deadlines = Deadlines()
    for number in range(10_000):
        queued = make_queued(number=number)
        deadlines.add(queued, 10**9 + number)
        deadlines.discard(queued)
    assert len(deadlines._heap) <= SPARE + 2
    assert (deadlines.next_ns(), len(deadlines)) == (None, 0)


class RequestQueueMachine(RuleBasedStateMachine):
    """Nothing is lost, nothing comes twice, batches keep their bounds, levels and their order."""

    POLICIES = (
        QueueLimits(max_size=6),
        QueueLimits(timeout_ns=20, on_timeout="delay"),
        QueueLimits(timeout_ns=15, allows_override=True),
    )

    def __init__(self):
        super().__init__()
        self.now_ns = 0
        self.model = {}  # waiting: name -> queued
        self.ended = set()
        self.dropped = []
        self.delayed = set()
        policy = BatchPolicy(max_batch=4, preferred=(3,), delay_ns=10)
        self.queue = RequestQueue(policy, self._on_drop, self.POLICIES, default_level=2)

    def _on_drop(self, queued, error):
        self._leave(queued)
        assert short(error) != "late" or queued.priority == 3

    def _leave(self, queued):
        assert self.model.pop(queued.request.name) is queued
        self.ended.add(queued.request.name)

    @rule(
        rows=st.integers(1, 4),
        key=st.sampled_from("xxy"),
        priority=st.integers(1, 3),
        timeout_ns=st.sampled_from([0, 5, 50]),
    )
    def offer(self, rows, key, priority, timeout_ns):
        name = len(self.model) + len(self.ended)
        queued = make_queued(name, rows=rows, key=key, priority=priority, timeout_ns=timeout_ns)
        self.model[name] = queued
        size = sum(other.priority == 1 for other in self.model.values())
        if priority == 1 and size > 6:
            with pytest.raises(UnavailableError):
                self.queue.offer(queued, self.now_ns)
            self._leave(queued)
        else:
            self.queue.offer(queued, self.now_ns)

    @rule(by_ns=st.integers(1, 12))
    def pass_time(self, by_ns):
        self.now_ns += by_ns
        self.queue.is_due(self.now_ns)
        assert not any(self._is_late(queued) for queued in self.model.values() if queued.priority == 3)

    @rule(data=st.data())
    def cancel(self, data):
        if self.model:
            self.model[data.draw(st.sampled_from(sorted(self.model)))].request.is_cancelled = True

    @rule()
    def take(self):
        is_due = self.queue.is_due(self.now_ns)
        waiting = [queued for queued in self.model.values() if not queued.request.is_cancelled]
        count = len(self.model)
        batch = self.queue.take(self.now_ns)
        if not batch:
            assert not is_due or len(self.model) < count  # what was due had been cancelled
            return
        assert sum(queued.rows for queued in batch) <= 4
        assert len({queued.key for queued in batch}) == 1
        best = sorted(waiting, key=self._turn)
        assert [queued.request.name for queued in batch] == [
            queued.request.name for queued in best[: len(batch)]
        ]
        for queued in batch:
            self._leave(queued)

    @rule()
    def drop_all(self):
        self.queue.drop_all(ClosedError("unloaded"))
        assert not self.model

    @invariant()
    def counts_what_waits(self):
        assert self.queue.waiting == len(self.model)

    @invariant()
    def wakes_in_time(self):
        due_ns = self.queue.due_ns(self.now_ns)
        assert (due_ns is None) == (not self.model)
        limits_ns = [q.since_ns + self._timeout_ns(q) for q in self.model.values() if q.priority == 3]
        future_ns = [limit_ns for limit_ns in limits_ns if limit_ns > self.now_ns]
        if future_ns and due_ns > self.now_ns:
            assert due_ns <= min(future_ns)

    def _timeout_ns(self, queued):
        return self.POLICIES[queued.priority - 1].timeout_of(queued.timeout_ns) or 10**9

    def _is_late(self, queued):
        return self.now_ns - queued.since_ns >= self._timeout_ns(queued)

    def _turn(self, queued):
        is_delayed = queued.priority == 2 and self._is_late(queued)
        return queued.priority, is_delayed, queued.since_ns if is_delayed else 0, queued.number


TestRequestQueueMachine = RequestQueueMachine.TestCase
TestRequestQueueMachine.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
