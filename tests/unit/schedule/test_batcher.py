from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgert.schedule.batcher import STARVING_NS, Batcher, BatchPolicy
from edgert.schedule.route import Route
from tests.fakes.frames import make_frame

MS = 1_000_000


class Desk:
    """A batcher with its routes, where frames are known by `source:seq`."""

    def __init__(self, key_of=lambda frame: None, **policy):
        self.dropped = []
        self.routes = {}
        self.batcher = Batcher(BatchPolicy(**policy), self._on_drop, key_of)
        self._seq = {}

    def route(self, source, **options):
        self.routes[source] = Route(source, "model", **options)

    def offer(self, source, count=1, now_ns=0, **fields):
        if source not in self.routes:
            self.route(source)
        for _ in range(count):
            seq = self._seq[source] = self._seq.get(source, -1) + 1
            frame = make_frame(source, seq, **{"captured_mono_ns": now_ns, **fields})
            assert self.batcher.offer(self.routes[source], frame, now_ns)

    def take(self, now_ns=0):
        batch = self.batcher.take(now_ns)
        assert all(self.routes[frame.source] is route for route, frame in batch)
        return " ".join(f"{frame.source}{frame.seq}" for _, frame in batch)

    def take_all(self, now_ns=0):
        batches = []
        while batch := self.take(now_ns):
            batches.append(batch)
        return batches

    def _on_drop(self, route, frame, reason):
        self.batcher.due_ns()  # would hang if drops were reported inside the lock
        self.dropped.append((f"{frame.source}{frame.seq}", reason))


def test_a_single_frame_goes_at_once_without_delay():
    desk = Desk(max_batch=8)
    desk.offer("a")
    assert desk.take() == "a0"


def test_nothing_waits_nothing_goes():
    desk = Desk(max_batch=8)
    assert desk.take() == ""
    assert desk.batcher.due_ns() is None


def test_a_batch_is_never_larger_than_the_model_allows():
    desk = Desk(max_batch=3)
    desk.offer("a", 8)
    assert desk.take_all() == ["a0 a1 a2", "a3 a4 a5", "a6 a7"]


# Turns


def test_routes_take_turns_frame_by_frame():
    desk = Desk(max_batch=4)
    desk.offer("a", 4)
    desk.offer("b", 2)
    desk.offer("c", 1)
    assert desk.take_all() == ["a0 b0 c0 a1", "b1 a2 a3"]


def test_turns_go_on_where_the_last_batch_stopped():
    desk = Desk(max_batch=1)
    desk.offer("a", 2)
    desk.offer("b", 2)
    assert desk.take_all() == ["a0", "b0", "a1", "b1"]


def test_a_flood_of_one_source_delays_another_by_one_turn_only():
    desk = Desk(max_batch=1)
    desk.offer("flood", 50)
    desk.take()
    desk.offer("calm")
    desk.offer("flood", 50)
    assert [desk.take(), desk.take()] == ["flood1", "calm0"]


def test_a_frame_that_supersedes_another_keeps_its_turn():
    desk = Desk(max_batch=1)
    desk.route("live", keeps_newest_only=True)
    desk.offer("live")
    desk.offer("b", 2)
    desk.offer("live", 2)

    assert desk.dropped == [("live0", "superseded"), ("live1", "superseded")]
    assert desk.take_all() == ["live2", "b0", "b1"]


def test_only_routes_that_want_it_keep_just_the_newest():
    desk = Desk(max_batch=8)
    desk.route("live", keeps_newest_only=True)
    desk.offer("every", 3)
    desk.offer("live", 3)
    assert desk.take() == "every0 live2 every1 every2"


def test_a_superseding_source_does_not_put_its_own_due_time_off():
    desk = Desk(max_batch=8, delay_ns=5 * MS)
    desk.route("live", keeps_newest_only=True)
    for now_ns in range(0, 10 * MS, 2 * MS):
        desk.offer("live", now_ns=now_ns)
    assert desk.batcher.due_ns() == 5 * MS
    assert desk.take(5 * MS) == "live4"


# Priorities


def test_higher_priority_goes_first():
    desk = Desk(max_batch=2)
    desk.route("low", priority=-1)
    desk.route("high", priority=5)
    desk.offer("low", 2)
    desk.offer("normal", 2)
    desk.offer("high", 1)
    assert desk.take_all() == ["high0 normal0", "normal1 low0", "low1"]


def test_a_low_priority_waits_only_until_it_starves():
    desk = Desk(max_batch=1)
    desk.route("high", priority=1)
    desk.offer("low")
    desk.offer("high", 3)
    assert desk.take(STARVING_NS) == "high0"
    assert desk.take(STARVING_NS + 1) == "low0"
    assert desk.take(STARVING_NS + 1) == "high1"


def test_starving_routes_get_at_most_every_second_turn():
    desk = Desk(max_batch=1)
    desk.route("high", priority=1)
    for source in "abcd":
        desk.offer(source, 2)
    late = STARVING_NS + 1
    desk.offer("high", 4, now_ns=late)
    assert desk.take_all(late) == ["a0", "high0", "b0", "high1", "c0", "high2", "d0", "high3"] + [
        f"{source}1" for source in "abcd"
    ]


def test_the_lowest_priority_is_not_starved_by_a_middle_one_that_starves_too():
    desk = Desk(max_batch=1)
    desk.route("high", priority=2)
    desk.route("low", priority=0)
    desk.offer("low")
    for source in "abc":
        desk.route(source, priority=1)
        desk.offer(source, 20, now_ns=1)
    desk.offer("high", 40, now_ns=1)
    late = STARVING_NS + 2
    assert "low0" in [desk.take(late), desk.take(late)]


def test_overload_starves_no_route_of_any_priority():
    desk = Desk(max_batch=1)
    sources = [f"{letter}{number}" for letter in "xyz" for number in range(10)]
    for source in sources:
        desk.route(source, priority="xyz".index(source[0]), keeps_newest_only=True)
    turns = []
    for turn in range(300):  # one frame served for every thirty that come, 100 ms apart
        for source in sources:
            desk.offer(source, now_ns=turn * 100 * MS)
        turns.append(desk.batcher.take(turn * 100 * MS)[0][0].source)

    def longest_wait(source):
        served = [-1, *(turn for turn, name in enumerate(turns) if name == source), len(turns)]
        return max(later - earlier for earlier, later in pairwise(served))

    assert max(longest_wait(source) for source in sources) <= 2 * len(sources) + 5
    assert sum(name[0] == "z" for name in turns) > sum(name[0] == "x" for name in turns)


def test_starving_frames_of_another_shape_get_their_turn_too():
    desk = Desk(key_of=lambda frame: frame.width, max_batch=2)
    desk.route("high", priority=1)
    desk.offer("low", 4, width=8)
    late = STARVING_NS + 1
    desk.offer("high", 9, now_ns=late)
    batches = desk.take_all(late)
    assert batches.index("low0") <= 1
    assert batches[0] == "low0"


def test_a_turn_that_could_not_be_used_for_its_shape_is_not_lost():
    desk = Desk(key_of=lambda frame: frame.width, max_batch=3)
    desk.route("high", priority=1)
    desk.offer("a", width=16)
    desk.offer("c", width=16, now_ns=1)
    desk.offer("b", width=8, now_ns=2)
    late = STARVING_NS + 3
    desk.offer("high", 9, width=16, now_ns=late)
    assert [desk.take(late) for _ in range(3)] == ["a0 high0 c0", "high1", "b0"]


# How long a batch waits for more


def test_an_incomplete_batch_goes_when_its_oldest_frame_has_waited_its_delay():
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a", now_ns=1 * MS)
    desk.offer("b", now_ns=3 * MS)
    assert desk.batcher.due_ns() == 6 * MS
    assert desk.take(6 * MS - 1) == ""
    assert desk.take(6 * MS) == "a0 b0"


@pytest.mark.parametrize("end", ["hurry", "close"])
def test_an_incomplete_batch_does_not_wait_for_what_will_not_come(end):
    desk = Desk(max_batch=4, delay_ns=5 * MS)
    desk.offer("a", now_ns=1 * MS)
    assert desk.take(1 * MS) == ""
    getattr(desk.batcher, end)()
    assert desk.take(1 * MS) == "a0"


def test_a_full_batch_does_not_wait():
    desk = Desk(max_batch=2, delay_ns=5 * MS)
    desk.offer("a", 2)
    assert desk.take() == "a0 a1"


def test_frames_left_over_wait_from_their_own_arrival():
    desk = Desk(max_batch=2, delay_ns=5 * MS)
    desk.offer("a", 2, now_ns=0)
    desk.offer("b", 1, now_ns=4 * MS)
    assert desk.take(4 * MS) == "a0 b0"
    assert desk.batcher.due_ns() == 5 * MS
    assert desk.take(5 * MS) == "a1"
    desk.offer("b", 1, now_ns=20 * MS)
    assert desk.batcher.due_ns() == 25 * MS


def test_a_preferred_size_goes_at_once_and_the_rest_waits():
    desk = Desk(max_batch=8, preferred=(2, 4), delay_ns=5 * MS)
    desk.offer("a", 1)
    assert desk.take() == ""
    desk.offer("a", 4, now_ns=1 * MS)
    assert desk.take(1 * MS) == "a0 a1 a2 a3"
    assert desk.take(1 * MS) == ""
    assert desk.batcher.due_ns() == 6 * MS
    assert desk.take(6 * MS) == "a4"


def test_without_delay_the_rest_of_a_preferred_size_goes_too():
    desk = Desk(max_batch=8, preferred=(4,))
    desk.offer("a", 5)
    assert desk.take_all() == ["a0 a1 a2 a3", "a4"]


def test_dropping_the_oldest_does_not_put_the_due_time_off():
    desk = Desk(max_batch=8, delay_ns=5 * MS)
    desk.offer("a", now_ns=0)
    desk.offer("a", now_ns=4 * MS)
    desk.batcher.drop_oldest(desk.routes["a"], "no_slot", 4 * MS)
    assert desk.batcher.due_ns() == 5 * MS


def test_the_delay_starts_anew_after_all_were_dropped():
    desk = Desk(max_batch=8, delay_ns=5 * MS)
    desk.offer("a", now_ns=0)
    desk.batcher.drop_all("draining")
    desk.offer("a", now_ns=9 * MS)
    assert desk.batcher.due_ns() == 14 * MS


# Shapes


def test_frames_of_different_shapes_never_share_a_batch():
    desk = Desk(key_of=lambda frame: frame.width, max_batch=4)
    desk.offer("a", 2, width=8)
    desk.offer("b", 2, width=16)
    for batch in iter(lambda: desk.batcher.take(0), []):
        assert len({frame.width for _, frame in batch}) == 1
    assert desk.batcher.waiting == 0


def test_frames_of_another_shape_keep_their_turn():
    desk = Desk(key_of=lambda frame: frame.width, max_batch=4)
    desk.offer("a", 1, width=8)
    desk.offer("b", 1, width=16)
    desk.offer("c", 1, width=8)
    assert desk.take_all() == ["a0", "b0", "c0"]


# Age


def test_a_frame_that_is_too_old_is_shed_when_its_turn_comes():
    desk = Desk(max_batch=4)
    desk.route("a", max_age_ns=10 * MS)
    desk.offer("a", captured_mono_ns=0)
    desk.offer("a", captured_mono_ns=1)
    desk.offer("b", captured_mono_ns=0)

    assert desk.take(10 * MS + 1) == "a1 b0"
    assert desk.dropped == [("a0", "stale")]


def test_only_stale_frames_make_no_batch():
    desk = Desk(max_batch=4)
    desk.route("a", max_age_ns=10 * MS)
    desk.offer("a", 3)
    assert desk.take(1000 * MS) == ""
    assert desk.dropped == [("a0", "stale"), ("a1", "stale"), ("a2", "stale")]
    assert desk.batcher.waiting == 0


def test_shedding_does_not_cost_a_route_its_turn():
    desk = Desk(max_batch=1)
    desk.route("a", max_age_ns=10 * MS)
    desk.offer("a", 5, captured_mono_ns=0)
    desk.offer("a", 1, captured_mono_ns=50 * MS)
    desk.offer("b", 5, captured_mono_ns=50 * MS)
    assert desk.take(55 * MS) == "a5"
    assert len(desk.dropped) == 5


# Drops and the end


def test_dropping_the_oldest_keeps_the_routes_turn():
    desk = Desk(max_batch=1)
    desk.offer("a", 2)
    desk.offer("b", 1)
    assert desk.batcher.drop_oldest(desk.routes["a"], "no_slot", 0)
    assert desk.dropped == [("a0", "no_slot")]
    assert desk.take_all() == ["a1", "b0"]


def test_dropping_the_only_frame_gives_the_turn_up():
    desk = Desk(max_batch=1)
    desk.offer("a", 1)
    desk.offer("b", 1)
    desk.batcher.drop_oldest(desk.routes["a"], "no_slot", 0)
    desk.offer("a", 1)
    assert desk.take_all() == ["b0", "a1"]


def test_dropping_from_a_route_without_frames_does_nothing():
    desk = Desk(max_batch=1)
    desk.offer("b", 1)
    assert not desk.batcher.drop_oldest(Route("a", "model"), "no_slot", 0)
    assert desk.dropped == []
    assert desk.batcher.waiting == 1


def test_drop_all_drops_every_frame_of_every_route():
    desk = Desk(max_batch=4)
    desk.route("b", priority=3)
    desk.offer("a", 2)
    desk.offer("b", 1)
    desk.batcher.drop_all("unloaded")
    assert sorted(desk.dropped) == [("a0", "unloaded"), ("a1", "unloaded"), ("b0", "unloaded")]
    assert desk.batcher.waiting == 0
    assert desk.take() == ""
    desk.offer("a", 1)
    assert desk.take() == "a2"


def test_a_closed_batcher_refuses_frames_and_still_hands_out_those_that_wait():
    desk = Desk(max_batch=4)
    desk.offer("a", 1)
    desk.batcher.close()
    assert not desk.batcher.offer(desk.routes["a"], make_frame("a", 9), 0)
    assert desk.dropped == []
    assert desk.batcher.waiting == 1
    assert desk.take() == "a0"


@pytest.mark.parametrize("is_open", [True, False])
def test_a_refused_frame_displaces_nothing(is_open):
    desk = Desk(max_batch=4)
    desk.route("live", keeps_newest_only=True)
    desk.offer("live")
    if not is_open:
        desk.batcher.close()
    assert desk.batcher.offer(desk.routes["live"], make_frame("live", 1), 0) is is_open
    assert desk.take() == ("live1" if is_open else "live0")


class Conservation(RuleBasedStateMachine):
    """Every frame offered is exactly once taken, dropped or waiting, and no route waits for ever."""

    def __init__(self):
        super().__init__()
        self.policy = BatchPolicy(4, (2,), 3 * MS)
        self.batcher = Batcher(self.policy, self._on_drop, lambda frame: frame.width)
        self.routes = [
            Route("plain", "m"),
            Route("live", "m", keeps_newest_only=True),
            Route("urgent", "m", priority=2, max_age_ns=20 * MS),
            Route("humble", "m", priority=-1),
        ]
        self.now_ns = 0
        self.offered = 0
        self.gone = []
        self.is_open = True

    def _on_drop(self, route, frame, reason):
        assert frame.source == route.source
        self.gone.append(frame.seq)

    @rule(index=st.integers(0, 3), width=st.sampled_from([4, 8]), age_ns=st.sampled_from([0, 30 * MS]))
    def offer(self, index, width, age_ns):
        route = self.routes[index]
        frame = make_frame(route.source, self.offered, width=width, captured_mono_ns=self.now_ns - age_ns)
        accepted = self.batcher.offer(route, frame, self.now_ns)
        assert accepted == self.is_open
        self.offered += accepted

    @rule()
    def take(self):
        due_ns, is_due = self.batcher.due_ns(), self.batcher.is_due(self.now_ns)
        waiting = self.batcher.waiting
        batch = self.batcher.take(self.now_ns)
        assert is_due == (self.batcher.waiting < waiting)
        assert len(batch) <= self.policy.max_batch
        assert len({frame.width for _, frame in batch}) <= 1
        assert all(frame.source == route.source for route, frame in batch)
        if waiting and due_ns <= self.now_ns:
            assert is_due
        self.gone += [frame.seq for _, frame in batch]

    @rule(by_ns=st.sampled_from([1, MS, 3 * MS, STARVING_NS]))
    def pass_time(self, by_ns):
        self.now_ns += by_ns

    @rule(index=st.integers(0, 3))
    def drop_oldest(self, index):
        waiting = self.batcher.waiting
        dropped = self.batcher.drop_oldest(self.routes[index], "no_slot", self.now_ns)
        assert self.batcher.waiting == waiting - dropped

    @rule()
    def drop_all(self):
        self.batcher.drop_all("draining")
        assert self.batcher.waiting == 0

    @precondition(lambda self: self.offered > 8)
    @rule()
    def close(self):
        self.batcher.close()
        self.is_open = False

    @invariant()
    def every_frame_is_somewhere_once(self):
        waiting = [frame.seq for route in self.routes for _, frame in route.pending]
        assert len(waiting) == self.batcher.waiting
        assert sorted([*self.gone, *waiting]) == list(range(self.offered))

    @invariant()
    def frames_that_wait_are_due_within_the_delay(self):
        due_ns = self.batcher.due_ns()
        assert (due_ns is None) == (self.batcher.waiting == 0)
        assert due_ns is None or due_ns <= self.now_ns + self.policy.delay_ns

    def teardown(self):
        self.now_ns += STARVING_NS
        for _ in range(self.offered + 1):
            self.take()
        assert self.batcher.waiting == 0
        assert sorted(self.gone) == list(range(self.offered))


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
