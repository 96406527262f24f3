"""Where a device finds a frame's pixels: in the slot itself, or in a copy that all models share."""

from __future__ import annotations

from edgert.device.driver import Driver, Stream
from edgert.device.memory import MemoryKind
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts


class SlotMirror:
    """Device memory as large as a slot, and the mark after which it holds the slot's frame."""

    def __init__(self, driver: Driver, size_bytes: int) -> None:
        self._driver = driver
        self.buffer = driver.allocate(size_bytes, MemoryKind.DEVICE, "slot mirrors")
        try:
            self.ready = driver.open_event()
        except BaseException:
            self.buffer.free()
            raise
        self.generation = 0
        self.stream_handle = 0

    def close(self) -> None:
        """Free the memory."""
        self.buffer.free()
        with self._driver.current():
            self.ready.close()


class Uploader:
    """Copies each frame once, if the device cannot read slots in place. For the one submitting thread."""

    def __init__(self, driver: Driver, *, is_staged: bool, copies: CopyCounts) -> None:
        self._driver = driver
        self._is_staged = is_staged
        self._copies = copies

    def address(self, slot: Slot, size_bytes: int, stream: Stream) -> int:
        """Return where the frame is for work on `stream` from now on, until the claim is released."""
        assert slot.buffer is not None  # noqa: S101 - a frame has been written
        if not self._is_staged:
            return slot.buffer.address
        mirror = slot.mirror
        if not isinstance(mirror, SlotMirror):  # it goes when the slot gets another buffer
            if mirror is not None:
                slot.mirror = None
                mirror.close()
            mirror = slot.mirror = SlotMirror(self._driver, slot.buffer.size_bytes)
        if mirror.generation != slot.generation:
            self._copy(slot, mirror, size_bytes, stream)
        elif mirror.stream_handle != stream.handle:
            stream.wait(mirror.ready)
        return mirror.buffer.address

    def _copy(self, slot: Slot, mirror: SlotMirror, size_bytes: int, stream: Stream) -> None:
        assert slot.buffer is not None  # noqa: S101 - see `address`
        stream.copy(mirror.buffer.address, slot.buffer.address, size_bytes)
        if slot.claims > 1:  # else nobody comes who would have to wait
            stream.record(mirror.ready)
        mirror.generation, mirror.stream_handle = slot.generation, stream.handle
        self._copies.add("host_to_device", size_bytes)
