"""The ring of slots: who may touch a slot when."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from edgert.device.memory import Budget, Buffer
from edgert.errors import BusyError, ClosedError, FrameError, OutOfDeviceMemoryError
from edgert.frames.slots import MAX_VIEWS, Slot, SlotRing, SlotState

MAX_BYTES = 1000


class Memory:
    """Allocates from a budget, so that a test sees what is in use."""

    def __init__(self, limit_bytes=0):
        self.budget = Budget(limit_bytes)
        self.allocations = 0

    def allocate(self, size_bytes):
        self.budget.take(size_bytes)
        self.allocations += 1
        return Buffer(np.zeros(size_bytes, np.uint8), self.budget.give_back)


@pytest.fixture
def memory():
    return Memory()


@pytest.fixture
def ring(memory):
    """Two slots. Every test has to leave them free."""
    ring = SlotRing(2, MAX_BYTES, memory.allocate)
    claimed = Slot.live.count
    yield ring
    ring.close(timeout_s=0.0)
    assert memory.budget.used_bytes == 0
    assert Slot.live.count == claimed


def test_a_slot_goes_from_free_to_writing_to_ready_to_reading_to_free(ring):
    slot = ring.acquire_write()
    states = [slot.state]
    ring.commit(slot, claims=1)
    states.append(slot.state)
    slot.begin_read()
    states.append(slot.state)
    slot.release()
    states.append(slot.state)
    assert states == [SlotState.WRITING, SlotState.READY, SlotState.READING, SlotState.FREE]


def test_a_slot_is_free_after_its_last_reader(ring):
    slot = ring.acquire_write()
    slot.commit(claims=3)
    slot.begin_read()
    slot.release()
    slot.release()
    assert (slot.state, slot.claims) == (SlotState.READING, 1)
    slot.release()
    assert slot.state is SlotState.FREE


def test_a_frame_that_nobody_wants_frees_its_slot(ring):
    slot = ring.acquire_write()
    ring.commit(slot, claims=0)
    assert slot.state is SlotState.FREE
    assert ring.statistics().used == 0


def test_an_abandoned_slot_is_free(ring):
    ring.abandon(ring.acquire_write())
    ring.acquire_write().abandon()
    assert ring.statistics().used == 0


def test_a_writer_gets_nothing_while_all_slots_are_claimed(ring):
    slots = [ring.acquire_write(), ring.acquire_write()]
    assert slots[0] is not slots[1]
    assert ring.acquire_write() is None
    assert ring.acquire_write(timeout_s=0.001) is None
    ring.commit(slots[0], claims=1)
    assert ring.acquire_write() is None
    slots[0].release()
    assert ring.acquire_write() is slots[0]
    for slot in slots:
        slot.abandon()


def test_a_waiting_writer_gets_the_slot_that_comes_free(ring):
    slots = [ring.acquire_write(), ring.acquire_write()]
    got = []
    writer = threading.Thread(target=lambda: got.append(ring.acquire_write(timeout_s=30.0)))
    writer.start()
    slots[1].abandon()
    writer.join(10.0)
    assert got == [slots[1]]
    for slot in slots:
        slot.abandon()


def test_fit_gives_an_array_over_the_slot(ring):
    slot = ring.acquire_write()
    image_hwc = slot.fit((2, 3, 3))
    image_hwc[:] = 7
    assert (image_hwc.shape, image_hwc.dtype) == ((2, 3, 3), np.uint8)
    ring.commit(slot, claims=1)
    assert (slot.view((2, 3, 3)) == 7).all()
    assert np.shares_memory(slot.view((2, 3, 3)), slot.view((18,)))
    slot.release()


def test_memory_comes_with_the_first_frame_and_grows_with_the_largest(ring, memory):
    assert ring.statistics().size_bytes == 0
    slot = ring.acquire_write()
    for shape in [(10, 10), (20, 10), (5, 5), (20, 10), (10, 10)]:
        assert slot.fit(shape).shape == shape
    assert (memory.allocations, ring.statistics().size_bytes) == (2, 200)
    slot.abandon()


def test_a_view_of_a_replaced_buffer_is_not_handed_out_again(ring):
    slot = ring.acquire_write()
    slot.fit((4, 4))
    slot.fit((8, 8))[:] = 9
    assert (slot.view((4, 4)) == 9).all()
    slot.abandon()


def test_a_sender_of_ever_new_shapes_does_not_grow_the_slot(ring):
    slot = ring.acquire_write()
    for width in range(1, 3 * MAX_VIEWS):
        assert slot.fit((1, width)).shape == (1, width)
    assert len(slot._views) <= MAX_VIEWS
    slot.abandon()


@pytest.mark.parametrize("shape", [(MAX_BYTES + 1,), (1 << 40, 1 << 40, 3)])
def test_a_frame_over_the_bound_is_refused(ring, shape):
    slot = ring.acquire_write()
    with pytest.raises(FrameError, match="over the source's bound of 1000"):
        slot.fit(shape)
    assert slot.fit((MAX_BYTES,)).nbytes == MAX_BYTES  # the slot is still good
    slot.abandon()


def test_a_slot_survives_a_failed_allocation():
    memory = Memory(limit_bytes=100)
    ring = SlotRing(1, MAX_BYTES, memory.allocate)
    slot = ring.acquire_write()
    slot.fit((100,))
    with pytest.raises(OutOfDeviceMemoryError):
        slot.fit((200,))
    assert slot.fit((50,)).shape == (50,)
    slot.abandon()
    ring.close()
    assert memory.budget.used_bytes == 0


@pytest.mark.parametrize("shape", [(4, 4), (5, 5)], ids=["a shape it has had", "a new shape"])
def test_only_the_writer_may_fit(ring, shape):
    slot = ring.acquire_write()
    slot.fit((4, 4))
    ring.commit(slot, claims=1)
    with pytest.raises(BusyError, match="is ready, not writing"):
        slot.fit(shape)
    slot.release()
    with pytest.raises(BusyError, match="is free, not writing"):
        slot.fit(shape)


def test_a_slot_cannot_be_committed_twice(ring):
    slot = ring.acquire_write()
    ring.commit(slot, claims=1)
    with pytest.raises(BusyError, match="is ready, not writing"):
        ring.commit(slot, claims=1)
    slot.release()


def test_a_slot_cannot_have_negative_claims(ring):
    slot = ring.acquire_write()
    with pytest.raises(ValueError, match="-1 claims"):
        ring.commit(slot, claims=-1)
    slot.abandon()


@pytest.mark.parametrize("act", [Slot.release, Slot.begin_read])
def test_who_has_no_claim_may_not(ring, act):
    slot = ring.acquire_write()
    with pytest.raises(BusyError, match=r"without a claim .*writing"):
        act(slot)
    assert slot.state is SlotState.WRITING
    slot.commit(claims=1)
    slot.release()
    with pytest.raises(BusyError, match=r"without a claim .*free"):
        act(slot)
    assert slot.state is SlotState.FREE


def test_a_slot_without_a_frame_has_no_view(ring):
    slot = ring.acquire_write()
    with pytest.raises(BusyError, match="no room yet"):
        slot.view((2, 2))
    slot.abandon()


def test_a_closed_ring_refuses_writers_also_those_that_wait(memory):
    ring = SlotRing(1, MAX_BYTES, memory.allocate)
    slot = ring.acquire_write()
    refused = []

    def wait():
        try:
            ring.acquire_write(timeout_s=30.0)
        except ClosedError as error:
            refused.append(str(error))

    writer = threading.Thread(target=wait)
    writer.start()
    with pytest.raises(BusyError, match="0:writing"):
        ring.close(timeout_s=0.0)
    writer.join(10.0)
    assert len(refused) == 1
    slot.abandon()
    ring.close()


def test_closing_waits_for_the_last_reader(memory):
    ring = SlotRing(1, MAX_BYTES, memory.allocate)
    slot = ring.acquire_write()
    slot.fit((10,))
    slot.commit(claims=1)
    closer = threading.Thread(target=ring.close, args=(30.0,))
    closer.start()
    assert memory.budget.used_bytes == 10
    slot.release()
    closer.join(10.0)
    assert memory.budget.used_bytes == 0
    ring.close()  # again, without effect


def test_statistics_keep_the_peak(ring):
    slots = [ring.acquire_write(), ring.acquire_write()]
    for slot in slots:
        slot.abandon()
    ring.acquire_write().abandon()
    statistics = ring.statistics()
    assert (statistics.slots, statistics.used, statistics.peak_used) == (2, 0, 2)


def test_readers_on_many_threads_free_a_slot_exactly_once(ring):
    def read(slot):
        slot.begin_read()
        slot.release()

    for _ in range(200):
        slot = ring.acquire_write()
        slot.commit(claims=4)
        readers = [threading.Thread(target=read, args=(slot,)) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert ring.statistics().used == 0


class RingMachine(RuleBasedStateMachine):
    """Writers and readers in any order, with bytes that show who wrote them last."""

    writing = Bundle("writing")
    claims = Bundle("claims")

    @initialize(count=st.integers(1, 3))
    def build(self, count):
        self.memory = Memory()
        self.live = Slot.live.count
        self.ring = SlotRing(count, MAX_BYTES, self.memory.allocate)
        self.count = count
        self.owners = {}  # slot: ("writing", 0) or ("claimed", number of claims)
        self.contents = {}  # slot: (shape, byte)
        self.stamp = 0

    @rule(target=writing)
    def acquire(self):
        slot = self.ring.acquire_write()
        if len(self.owners) == self.count:
            assert slot is None
            return None
        assert slot not in self.owners
        self.owners[slot] = ("writing", 0)
        return slot

    @rule(slot=writing, shape=st.tuples(st.integers(1, 40), st.integers(1, 40)))
    def fit(self, slot, shape):
        if self.owners.get(slot, ("free", 0))[0] != "writing":
            if slot is not None:
                with pytest.raises(BusyError):
                    slot.fit(shape)
            return
        if shape[0] * shape[1] > MAX_BYTES:
            with pytest.raises(FrameError):
                slot.fit(shape)
            return
        self.stamp = (self.stamp + 1) % 256
        slot.fit(shape)[:] = self.stamp
        self.contents[slot] = (shape, self.stamp)

    @rule(target=claims, slot=consumes(writing), count=st.integers(0, 3))
    def commit(self, slot, count):
        if self.owners.get(slot, ("free", 0))[0] != "writing":
            return (None, 0)
        slot.commit(count)
        if count:
            self.owners[slot] = ("claimed", count)
        else:
            del self.owners[slot]
        return (slot, count)

    @rule(claim=claims)
    def begin_read(self, claim):
        slot, _ = claim
        if self.owners.get(slot, ("free", 0))[0] == "claimed":
            slot.begin_read()
            assert slot.state is SlotState.READING

    @rule(claim=claims)
    def read(self, claim):
        slot, _ = claim
        if self.owners.get(slot, ("free", 0))[0] == "claimed" and slot in self.contents:
            shape, stamp = self.contents[slot]
            assert (slot.view(shape) == stamp).all()

    @rule(claim=claims)
    def release(self, claim):
        slot, _ = claim
        kind, left = self.owners.get(slot, ("free", 0))
        if kind == "claimed":
            slot.release()
            self.owners[slot] = (kind, left - 1)
            if left == 1:
                del self.owners[slot]
        elif slot is not None:
            with pytest.raises(BusyError):
                slot.release()

    @invariant()
    def agrees(self):
        statistics = self.ring.statistics()
        assert statistics.used == len(self.owners)
        assert statistics.used <= statistics.peak_used <= self.count
        assert statistics.size_bytes == self.memory.budget.used_bytes <= self.count * MAX_BYTES
        assert Slot.live.count == self.live + len(self.owners)
        for slot, (kind, claims) in self.owners.items():
            assert slot.claims == claims
            assert (slot.state is SlotState.WRITING) == (kind == "writing")

    def teardown(self):
        if self.owners:
            with pytest.raises(BusyError):
                self.ring.close(timeout_s=0.0)
        for slot, (kind, claims) in self.owners.items():
            if kind == "writing":
                slot.abandon()
            for _ in range(claims):
                slot.release()
        self.ring.close(timeout_s=0.0)
        assert self.memory.budget.used_bytes == 0
        with pytest.raises(ClosedError):
            self.ring.acquire_write()


TestRingInAnyOrder = RingMachine.TestCase
TestRingInAnyOrder.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
