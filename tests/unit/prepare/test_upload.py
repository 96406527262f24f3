"""Copies of slots on a device: made once a frame, whoever reads it."""

from __future__ import annotations

import ctypes

import pytest

from edgert.device.host import HostEvent
from edgert.device.memory import Budget
from edgert.errors import DeviceError, OutOfDeviceMemoryError
from edgert.frames.slots import SlotRing
from edgert.prepare.upload import SlotMirror, Uploader
from edgert.stats import CopyCounts
from tests.fakes.noted_device import NotedDriver

SIDES = (4, 6, 3)
SIZE = 72


class Rig:
    """A ring, two lanes' streams and one uploader for each; `copies` counts for both."""

    def __init__(self, driver):
        self.driver = driver
        self.ring = SlotRing(2, 10_000, driver.allocate)
        self.first, self.second = driver.open_stream(), driver.open_stream()
        self.copies = CopyCounts()
        self._uploaders = {stream: self.uploader(is_staged=True) for stream in (self.first, self.second)}

    def uploader(self, *, is_staged):
        return Uploader(self.driver, is_staged=is_staged, copies=self.copies)

    def write(self, value=0, *, claims=2, shape=SIDES):
        slot = self.ring.acquire_write()
        slot.fit(shape)[...] = value
        slot.commit(claims)
        return slot

    def read(self, slot, stream):
        """Return where the frame is for this stream, as the lane of that stream asks."""
        return self._uploaders[stream].address(slot, SIZE, stream)

    def counted(self):
        return self.copies.copies.snapshot(), self.copies.bytes.snapshot()

    def mirror_bytes(self):
        return self.driver.budget.by_owner()["slot mirrors"].used_bytes

    def close(self):
        self.ring.close(timeout_s=0.0)  # by whoever owns the source: the device is not current there
        with self.driver.current():
            self.first.close()
            self.second.close()


@pytest.fixture
def driver():
    return NotedDriver()


@pytest.fixture
def rig(driver):
    rig = Rig(driver)
    with driver.current():
        yield rig
    rig.close()
    assert driver.budget.used_bytes == 0


def pixels(address):
    return ctypes.string_at(address, SIZE)


def release(slot):
    while slot.claims:
        slot.release()


def test_a_slot_that_the_device_reads_in_place_is_not_copied(rig):
    slot = rig.write(7)
    assert rig.uploader(is_staged=False).address(slot, SIZE, rig.first) == slot.buffer.address
    assert (rig.driver.asked, rig.counted()) == ([], ({}, {}))
    assert slot.mirror is None
    release(slot)


def test_the_copy_is_the_frame(rig):
    slot = rig.write(7)
    address = rig.read(slot, rig.first)
    assert address != slot.buffer.address
    assert pixels(address) == bytes([7]) * SIZE
    release(slot)


def test_a_slot_that_two_models_read_is_copied_once(rig):
    slot = rig.write()
    assert rig.read(slot, rig.first) == rig.read(slot, rig.second)
    assert rig.driver.verbs().count("copy") == 1
    assert rig.counted() == ({"host_to_device": 1}, {"host_to_device": SIZE})
    release(slot)


def test_a_second_stream_waits_for_the_mark_behind_the_copy(rig):
    slot = rig.write()
    rig.read(slot, rig.first)
    rig.read(slot, rig.second)
    copy, record, wait = rig.driver.asked
    assert [(asked.verb, asked.stream) for asked in (copy, record, wait)] == [
        ("copy", rig.first),
        ("record", rig.first),
        ("wait", rig.second),
    ]
    assert wait.what is record.what
    release(slot)


def test_the_stream_that_copied_waits_for_nothing(rig):
    slot = rig.write()
    for _ in range(2):
        rig.read(slot, rig.first)
    assert rig.driver.verbs() == ["copy", "record"]
    release(slot)


def test_a_frame_of_one_reader_gets_no_mark(rig):
    slot = rig.write(claims=1)
    rig.read(slot, rig.first)
    assert rig.driver.verbs() == ["copy"]
    release(slot)


def test_a_rewritten_slot_is_copied_again_to_the_same_memory(rig):
    old = rig.write(1)
    address = rig.read(old, rig.first)
    release(old)
    new = rig.write(2)
    assert new is old
    assert rig.read(new, rig.first) == address
    assert pixels(address) == bytes([2]) * SIZE
    assert rig.counted() == ({"host_to_device": 2}, {"host_to_device": 2 * SIZE})
    release(new)


def test_after_a_rewrite_it_is_the_first_stream_that_waits_if_the_second_copied(rig):
    slot = rig.write()
    rig.read(slot, rig.first)
    release(slot)
    assert rig.write() is slot
    rig.driver.asked.clear()
    rig.read(slot, rig.second)
    rig.read(slot, rig.first)
    assert [(asked.verb, asked.stream) for asked in rig.driver.asked] == [
        ("copy", rig.second),
        ("record", rig.second),
        ("wait", rig.first),
    ]
    release(slot)


def test_slots_have_copies_of_their_own(rig):
    slots = [rig.write(1), rig.write(2)]
    first, second = (rig.read(slot, rig.first) for slot in slots)
    assert (pixels(first), pixels(second)) == (bytes([1]) * SIZE, bytes([2]) * SIZE)
    for slot in slots:
        release(slot)


def test_only_the_frames_bytes_are_copied_of_a_larger_slot(rig):
    slot = rig.write(1, shape=(8, 6, 3))
    release(slot)
    assert rig.write(2) is slot
    address = rig.read(slot, rig.first)
    assert pixels(address) == bytes([2]) * SIZE
    assert rig.counted()[1] == {"host_to_device": SIZE}
    assert rig.mirror_bytes() == slot.buffer.size_bytes == 2 * SIZE
    release(slot)


def test_a_slot_that_grows_frees_its_copy_and_gets_a_larger_one(rig):
    slot = rig.write()
    rig.read(slot, rig.first)
    release(slot)
    events = HostEvent.live.count
    assert rig.write(3, shape=(8, 6, 3)) is slot
    assert (slot.mirror, rig.mirror_bytes(), HostEvent.live.count) == (None, 0, events - 1)
    assert pixels(rig.read(slot, rig.first)) == bytes([3]) * SIZE
    assert rig.mirror_bytes() == 2 * SIZE
    release(slot)


def test_the_copy_is_freed_with_the_ring_wherever_that_is_closed(driver):
    rig = Rig(driver)
    events = HostEvent.live.count
    with driver.current():
        slot = rig.write()
        rig.read(slot, rig.first)
    assert (rig.mirror_bytes(), HostEvent.live.count) == (SIZE, events + 1)
    release(slot)
    rig.close()  # where the device is not current
    assert (rig.mirror_bytes(), HostEvent.live.count) == (0, events)


def test_a_copy_for_which_there_is_no_room_is_refused_and_made_when_there_is():
    driver = NotedDriver(Budget(SIZE + 10))
    rig = Rig(driver)
    with driver.current():
        slot = rig.write(5)
        with pytest.raises(OutOfDeviceMemoryError):
            rig.read(slot, rig.first)
        assert slot.mirror is None
        driver.budget.limit_bytes = 0
        assert pixels(rig.read(slot, rig.first)) == bytes([5]) * SIZE
    release(slot)
    rig.close()
    assert driver.budget.used_bytes == 0


def test_a_copy_that_the_device_refused_is_not_taken_for_made(rig):
    slot = rig.write(5)
    rig.driver.failures["copy"] = DeviceError("refused")
    with pytest.raises(DeviceError):
        rig.read(slot, rig.first)
    assert rig.counted() == ({}, {})
    assert pixels(rig.read(slot, rig.second)) == bytes([5]) * SIZE
    assert rig.counted()[0] == {"host_to_device": 1}
    release(slot)


def test_memory_of_another_kind_at_a_slot_gives_way(rig):
    class Other:
        is_closed = False

        def close(self):
            self.is_closed = True

    slot, other = rig.write(), Other()
    slot.mirror = other
    rig.read(slot, rig.first)
    assert other.is_closed
    assert isinstance(slot.mirror, SlotMirror)
    release(slot)
