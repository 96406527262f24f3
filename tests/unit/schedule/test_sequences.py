from __future__ import annotations

import pytest

from edgert.errors import ClosedError, RequestError, UnavailableError
from edgert.models.model_config import SequenceBatching
from edgert.schedule.sequence import SequencePolicy
from edgert.schedule.sequences import Sequences
from tests.fakes.requests import make_queued, short

MS = 1_000_000
IDLE_NS = 100 * MS


class Desk:
    """The sequences of a model; `7.0` is the first request of sequence 7."""

    def __init__(self, lanes=1, max_batch=2, **batching):
        self.dropped = []
        self.queued = {}
        batching = {"max_sequence_idle_microseconds": IDLE_NS // 1000, **batching}
        policy = SequencePolicy.of(max_batch, SequenceBatching(**batching))
        self.sequences = Sequences("adder", lanes, policy, self._on_drop)
        self.lanes = self.sequences.lanes

    def offer(self, steps, now_ns=0, key=None):
        for step in steps.split():
            name = step.strip("<>")
            number = sum(known.startswith(f"{name}.") for known in self.queued)
            queued = self.queued[f"{name}.{number}"] = make_queued(step, sequence=step, key=key)
            self.sequences.offer(queued, now_ns)

    def take(self, lane=0, now_ns=0):
        is_due = self.lanes[lane].is_due(now_ns)
        turns = self.lanes[lane].take(now_ns)
        assert is_due or not turns
        return turns

    def run(self, lane=0, now_ns=0):
        """Take a batch, complete it and return what it had; `-` is a slot with nothing ready."""
        turns = self.take(lane, now_ns)
        self.lanes[lane].complete(turns, now_ns)
        return named(turns)

    def refuse(self, step, match):
        with pytest.raises(RequestError, match=match) as refusal:
            self.offer(step)
        assert type(refusal.value) is RequestError

    def _on_drop(self, queued, error):
        self.sequences.lanes[0].due_ns()  # would hang if drops were reported inside the lock
        self.dropped.append((queued.request.name, short(error)))


def named(turns):
    return " ".join("-" if turn is None else turn.queued.request.name for turn in turns)


def oldest(**batching):
    return Desk(kind="oldest", max_candidate_sequences=batching.pop("candidates", 2), **batching)


# What is refused, with the real server's texts


@pytest.mark.parametrize("sequence", [None, "0", "<>"])
def test_a_request_without_id_is_refused(sequence):
    desk = Desk()
    with pytest.raises(RequestError) as refusal:
        desk.sequences.offer(make_queued(sequence=sequence), 0)
    assert str(refusal.value) == (
        "inference request to model 'adder' must specify a non-zero or non-empty correlation ID"
    )


@pytest.mark.parametrize("name", ["7", "door"])
def test_a_sequence_that_did_not_start_is_refused(name):
    Desk().refuse(
        name,
        f"^inference request for sequence {name} to model 'adder' must specify the START flag on the first "
        "request of the sequence$",
    )


def test_more_than_one_row_is_refused():
    with pytest.raises(RequestError) as refusal:
        Desk().sequences.offer(make_queued(sequence="<7", rows=2), 0)
    assert str(refusal.value) == (
        "inference request to model 'adder' must specify batch-size 1 due to requirements of sequence batcher"
    )


def test_nothing_comes_after_the_end():
    desk = Desk()
    desk.offer("<7 7>")
    desk.refuse("7", "must specify the START flag")
    assert [desk.run(), desk.run()] == ["<7", "7>"]
    desk.refuse("7", "must specify the START flag")
    assert desk.sequences.count == 0


# Direct


def test_a_sequence_keeps_its_slot_and_requests_run_one_by_one():
    desk = Desk()
    desk.offer("<7 <8 8 7> 8>")
    assert [desk.run() for _ in range(4)] == ["<7 <8", "7> 8", "- 8>", ""]


def test_a_slot_with_nothing_ready_is_none_and_those_after_the_last_ready_are_left_out():
    desk = Desk(max_batch=3)
    desk.offer("<1 <2 <3")
    assert desk.run() == "<1 <2 <3"
    desk.offer("2")
    assert desk.run() == "- 2"


def test_a_sequence_has_at_most_one_request_in_flight_though_the_lane_takes_more_batches():
    desk = Desk()
    desk.offer("<7 7 <8")
    first = desk.take()
    assert named(first) == "<7 <8"
    assert desk.take() == []
    desk.lanes[0].complete(first, 0)
    assert desk.run() == "7"


def test_turns_say_start_end_and_sequence():
    desk = Desk()
    desk.offer("<7 7>")
    [start] = desk.take()
    start.sequence.state = {"sum": 1}
    desk.lanes[0].complete([start], 0)
    [end] = desk.take()
    assert (start.is_start, start.is_end, end.is_start, end.is_end) == (True, False, False, True)
    assert end.sequence is start.sequence
    assert (end.sequence.id, end.sequence.state) == (7, {"sum": 1})
    desk.lanes[0].complete([end], 0)
    assert end.sequence.state is None


def test_sequences_spread_over_lanes_and_stay_there():
    desk = Desk(lanes=2)
    desk.offer("<1 <2 <3")
    assert (desk.run(0), desk.run(1)) == ("<1 <3", "<2")
    desk.offer("3 2")
    assert (desk.run(0), desk.run(1)) == ("- 3", "2")


def test_without_a_slot_sequences_wait_first_come_first_served():
    desk = Desk(max_batch=1)
    desk.offer("<1 <2 <3 2> 1> 3>")
    assert desk.sequences.count == 3
    assert [desk.run() for _ in range(7)] == ["<1", "1>", "<2", "2>", "<3", "3>", ""]
    assert desk.sequences.count == 0


def test_a_delay_counts_only_with_a_minimum_utilization():
    desk = Desk(max_batch=4, max_queue_delay_microseconds=5000)
    desk.offer("<1")
    assert desk.run() == "<1"


def test_a_batch_goes_at_once_when_enough_slots_are_ready_else_after_the_delay():
    desk = Desk(max_batch=4, max_queue_delay_microseconds=5000, minimum_slot_utilization=0.5)
    desk.offer("<1", 1 * MS)
    assert desk.run(now_ns=1 * MS) == ""
    assert desk.lanes[0].due_ns(1 * MS) == 6 * MS
    desk.offer("<2", 2 * MS)
    assert desk.run(now_ns=2 * MS) == "<1 <2"
    desk.offer("1", 3 * MS)
    assert desk.run(now_ns=8 * MS - 1) == ""
    assert desk.run(now_ns=8 * MS) == "1"


def test_requests_of_another_key_wait_for_the_next_batch():
    desk = Desk(max_batch=3)
    desk.offer("<1", key=8)
    desk.offer("<2", key=9)
    desk.offer("<3", key=8)
    assert [desk.run(), desk.run()] == ["<1 - <3", "- <2"]


# Starting again


def test_a_start_while_the_sequence_goes_on_closes_that_after_what_it_has():
    desk = Desk()
    desk.offer("<7 7")
    [first] = desk.take()
    desk.offer("<7 7>")
    desk.lanes[0].complete([first], 0)
    second = desk.take()
    assert named(second) == "7"
    assert second[0].sequence is first.sequence
    desk.lanes[0].complete(second, 0)
    third = desk.take()
    assert named(third) == "<7"
    assert third[0].sequence is not first.sequence
    desk.lanes[0].complete(third, 0)
    assert (desk.run(), desk.sequences.count) == ("7>", 0)


def test_a_start_of_an_idle_sequence_ends_that_at_once():
    desk = Desk()
    desk.offer("<7")
    turns = desk.take()
    turns[0].sequence.state = "old"
    desk.lanes[0].complete(turns, 0)
    desk.offer("<7")
    assert (turns[0].sequence.state, desk.sequences.count, desk.run()) == (None, 1, "<7")


def test_one_id_again_and_again_does_not_keep_its_slot_from_those_that_came_first():
    desk = Desk(max_batch=1)
    desk.offer("<7 <8 8> <7 7>")
    assert [desk.run() for _ in range(5)] == ["<7", "<8", "8>", "<7", "7>"]


# Idle


def test_an_idle_sequence_loses_its_slot_on_time():
    desk = Desk(max_batch=1)
    desk.offer("<7")
    assert desk.run(now_ns=5 * MS) == "<7"
    desk.offer("<8", 6 * MS)
    assert desk.lanes[0].due_ns(6 * MS) == 5 * MS + IDLE_NS
    assert desk.run(now_ns=4 * MS + IDLE_NS) == ""
    assert desk.run(now_ns=5 * MS + IDLE_NS) == "<8"
    desk.refuse("7", "must specify the START flag")


def test_a_sequence_with_a_request_that_waits_or_runs_is_not_idle():
    desk = Desk(max_batch=1)
    desk.offer("<7 <8")
    turns = desk.take()
    assert desk.take(now_ns=5 * IDLE_NS) == []
    desk.lanes[0].complete(turns, 5 * IDLE_NS)
    desk.offer("7", 5 * IDLE_NS + 1)
    assert desk.run(now_ns=9 * IDLE_NS) == "7"
    assert desk.run(now_ns=10 * IDLE_NS) == "<8"  # it waited for a slot all the time


# Oldest


def test_the_oldest_requests_of_all_candidates_go_first():
    desk = oldest(candidates=3, max_batch=2)
    desk.offer("<1", 1)
    desk.offer("<2", 2)
    desk.offer("<3", 3)
    desk.offer("1", 4)
    desk.offer("2", 5)
    assert [desk.run(now_ns=9) for _ in range(3)] == ["<1 <2", "<3 1", "2"]


def test_candidates_are_bounded_and_a_turn_has_no_gaps():
    desk = oldest(candidates=2, max_batch=4)
    desk.offer("<1 <2 <3")
    assert desk.run() == "<1 <2"
    desk.offer("2>")
    assert [desk.run(), desk.run()] == ["2>", "<3"]


def test_preferred_sizes_and_delay_of_candidates():
    desk = oldest(candidates=8, max_batch=4, preferred_batch_size=(2,), max_queue_delay_microseconds=5000)
    desk.offer("<1", 1 * MS)
    assert desk.run(now_ns=1 * MS) == ""
    desk.offer("<2 <3", 2 * MS)
    assert desk.run(now_ns=2 * MS) == "<1 <2"
    assert (desk.run(now_ns=6 * MS), desk.lanes[0].due_ns(6 * MS)) == ("", 7 * MS)
    assert desk.run(now_ns=7 * MS) == "<3"


def test_requests_of_two_keys_do_not_share_a_batch_of_candidates():
    desk = oldest(candidates=4, max_batch=4)
    desk.offer("<1", key=8)
    desk.offer("<2", key=9)
    desk.offer("<3", key=8)
    assert [desk.run(), desk.run()] == ["<1 <3", "<2"]


# Cancelling, closing


def test_a_cancelled_request_cancels_all_that_wait_of_its_sequence():
    desk = Desk()
    desk.offer("<7 7 7 <8")
    turns = desk.take()
    desk.queued["7.1"].request.is_cancelled = True
    desk.lanes[0].complete(turns, 0)
    assert desk.run() == ""
    assert desk.dropped == [("7", "cancelled"), ("7", "cancelled")]
    desk.refuse("7", "must specify the START flag")
    desk.offer("8>")
    assert desk.run() == "- 8>"


def test_a_cancelled_sequence_gives_its_slot_to_the_next():
    desk = Desk(max_batch=1)
    desk.offer("<7 <8")
    desk.queued["7.0"].request.is_cancelled = True
    assert (desk.run(), desk.dropped) == ("<8", [("<7", "cancelled")])


def test_closing_refuses_and_ends_delays():
    desk = Desk(max_batch=4, max_queue_delay_microseconds=5000, minimum_slot_utilization=0.9)
    desk.offer("<1")
    assert desk.run() == ""
    desk.sequences.close()
    with pytest.raises(UnavailableError, match="stopped accepting"):
        desk.offer("<2")
    assert desk.run() == "<1"


def test_dropping_all_answers_each_and_ends_what_runs_when_it_is_done():
    desk = Desk(max_batch=1)
    desk.offer("<7 7 <8 8 <7")
    turns = desk.take()
    turns[0].sequence.state = "old"
    desk.sequences.drop_all(ClosedError("unloaded"))
    assert sorted(desk.dropped) == sorted((name, "unloaded") for name in ("7", "<8", "8", "<7"))
    assert (desk.sequences.waiting, desk.sequences.count) == (0, 1)
    assert turns[0].sequence.state == "old"
    desk.lanes[0].complete(turns, 0)
    assert (desk.sequences.count, turns[0].sequence.state, desk.run()) == (0, None, "")


def test_after_dropping_all_a_start_waits_for_what_still_runs_of_its_id():
    desk = Desk()
    desk.offer("<7 7")
    turns = desk.take()
    desk.sequences.drop_all(ClosedError("unloaded"))
    desk.refuse("7", "must specify the START flag")
    desk.offer("<7")
    assert desk.take() == []
    desk.lanes[0].complete(turns, 0)
    assert desk.run() == "<7"


def test_what_waits_is_counted_by_lane_and_in_all():
    desk = Desk(lanes=2, max_batch=1)
    desk.offer("<1 1 <2 <3 3")
    assert [desk.sequences.waiting, *(lane.waiting for lane in desk.lanes)] == [5, 2, 1]


def test_the_lanes_say_whether_anybody_has_to_wake_the_scheduler():
    desk = Desk(lanes=2)
    for lane in desk.lanes:
        lane.is_awaited = False
    assert not desk.sequences.is_awaited
    desk.lanes[1].is_awaited = True
    assert desk.sequences.is_awaited
