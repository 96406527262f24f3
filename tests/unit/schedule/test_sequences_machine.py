from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgert.errors import ClosedError, RequestError
from edgert.schedule.sequence import SequencePolicy
from edgert.schedule.sequences import Sequences
from tests.fakes.requests import make_queued, short

IDLE_NS = 40
POLICIES = (
    SequencePolicy(max_batch=2, seats=2, idle_ns=IDLE_NS),
    SequencePolicy(max_batch=3, seats=3, delay_ns=9, utilization_min=0.6, idle_ns=IDLE_NS),
    SequencePolicy(max_batch=2, seats=3, is_direct=False, idle_ns=IDLE_NS),
    SequencePolicy(max_batch=4, seats=4, is_direct=False, preferred=(2,), delay_ns=9, idle_ns=IDLE_NS),
)
IDS = st.integers(1, 5).map(str)


class SequencesMachine(RuleBasedStateMachine):
    """Each request is taken or dropped once; a sequence's are taken in order, one at a time, at one seat."""

    @initialize(policy=st.sampled_from(POLICIES), lanes=st.integers(1, 2))
    def open(self, policy, lanes):
        self.policy = policy
        self.now_ns = 0
        self.sequences = Sequences("adder", lanes, policy, self._on_drop)
        self.in_flight = []  # (lane, turns)
        self.waiting = {}  # name: Queued
        self.begun = {}  # sequence: number of its last request taken
        self.seats = {}  # sequence: (lane, slot)
        self.running = set()
        self.started = 0
        self.last_name = 0

    def _on_drop(self, queued, error):
        assert self.waiting.pop(queued.request.name) is queued
        assert short(error) in ("cancelled", "unloaded")

    @rule(name=IDS, is_start=st.booleans(), is_end=st.booleans(), key=st.sampled_from("xxxy"))
    def offer(self, name, is_start, is_end, key):
        self.last_name += 1
        step = ("<" if is_start else "") + name + (">" if is_end else "")
        queued = make_queued(self.last_name, sequence=step, key=key)
        self.waiting[self.last_name] = queued
        try:
            self.sequences.offer(queued, self.now_ns)
        except RequestError:
            assert not is_start
            del self.waiting[self.last_name]

    @rule(data=st.data())
    def take(self, data):
        lane = data.draw(st.sampled_from(self.sequences.lanes))
        is_due = lane.is_due(self.now_ns)
        turns = lane.take(self.now_ns)
        assert is_due or not turns
        assert len(turns) <= self.policy.max_batch
        if turns:
            assert turns[-1] is not None
            self.in_flight.append((lane, turns))
        assert len({turn.queued.key for turn in turns if turn}) <= 1
        for slot, turn in enumerate(turns):
            if turn is not None:
                self._begin(lane, slot, turn)

    def _begin(self, lane, slot, turn):
        sequence, queued = turn.sequence, turn.queued
        assert self.waiting.pop(queued.request.name) is queued
        assert not queued.request.is_cancelled
        assert sequence not in self.running
        assert sequence.id == queued.request.sequence.id
        assert all(other.id != sequence.id for other in self.running)
        assert turn.is_start == (sequence not in self.begun)
        assert self.begun.get(sequence, 0) < queued.number
        assert self.seats.setdefault(sequence, (lane, sequence.slot)) == (lane, sequence.slot)
        if self.policy.is_direct:
            assert sequence.slot == slot
        if turn.is_start:
            sequence.state = "mine"
        assert sequence.state == "mine"
        self.begun[sequence] = queued.number
        self.running.add(sequence)

    @rule(data=st.data())
    def complete(self, data):
        if self.in_flight:
            index = data.draw(st.integers(0, len(self.in_flight) - 1))
            lane, turns = self.in_flight.pop(index)
            self.running -= {turn.sequence for turn in turns if turn}
            lane.complete(turns, self.now_ns)

    @rule(by_ns=st.integers(1, 25))
    def pass_time(self, by_ns):
        self.now_ns += by_ns

    @rule(data=st.data())
    def cancel(self, data):
        if self.waiting:
            self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))].request.is_cancelled = True

    @rule()
    def drop_all(self):
        self.sequences.drop_all(ClosedError("unloaded"))
        assert not self.waiting
        assert self.sequences.count == len(self.running)

    @rule()
    def drain(self):
        """Whatever waits goes if lanes run and time passes, or ends as its sequence does."""
        while self.in_flight:
            lane, turns = self.in_flight.pop()
            self.running -= {turn.sequence for turn in turns if turn}
            lane.complete(turns, self.now_ns)
        for _ in range(60 + 20 * len(self.waiting)):
            if not self.waiting:
                break
            self.now_ns += 5
            for lane in self.sequences.lanes:
                turns = lane.take(self.now_ns)
                for slot, turn in enumerate(turns):
                    if turn is not None:
                        self._begin(lane, slot, turn)
                self.running -= {turn.sequence for turn in turns if turn}
                lane.complete(turns, self.now_ns)
        assert not self.waiting

    @invariant()
    def counts_what_waits(self):
        if hasattr(self, "sequences"):
            assert self.sequences.waiting == len(self.waiting)

    @invariant()
    def no_seat_is_free_while_a_sequence_waits_for_one(self):
        if hasattr(self, "sequences") and self.sequences._backlog:
            assert all(lane.first_free is None for lane in self.sequences.lanes)

    def teardown(self):
        """After a while without requests no sequence is left."""
        if not hasattr(self, "sequences"):
            return
        self.drain()
        for _ in range(3):
            self.now_ns += IDLE_NS
            for lane in self.sequences.lanes:
                lane.is_due(self.now_ns)
                assert lane.due_ns(self.now_ns) is None or self.sequences.count
        assert self.sequences.count == 0
        assert not self.sequences._newest
        with pytest.raises(RequestError):
            self.sequences.offer(make_queued(sequence="1"), self.now_ns)


TestSequencesMachine = SequencesMachine.TestCase
TestSequencesMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
