"""Frames without a camera, with real slots where a test cares for them."""

from __future__ import annotations

from edgert.device.host import HostDriver
from edgert.frames.frame import Frame, image_shape
from edgert.frames.slots import Slot, SlotRing


def make_frame(source="door", seq=0, *, slot=None, captured_mono_ns=0, width=6, height=4, **fields):
    """Return a frame; without `slot` it has one that nobody claims, so releasing it is an error."""
    return Frame(
        source,
        seq,
        fields.pop("format", "bgr8"),
        height,
        width,
        captured_mono_ns,
        fields.pop("captured_utc_ns", 0),
        Slot(SlotRing(0, 0, HostDriver().allocate), -1) if slot is None else slot,
        **fields,
    )


class FrameMaker:
    """Frames of one source in the slots of a ring, numbered from 0. `close` finds slots still claimed."""

    def __init__(self, source="door", slots=4, width=6, height=4, pixel_format="bgr8"):
        self.source = source
        self.driver = HostDriver()
        self.ring = SlotRing(slots, 1 << 24, self.driver.allocate)
        self._size = {"width": width, "height": height, "format": pixel_format}
        self._shape = image_shape(pixel_format, height, width)
        self._seq = 0

    def make(self, *, claims=1, value=0, captured_mono_ns=0, **fields):
        """Return a frame whose slot has `claims` readers to come and pixels of `value`."""
        slot = self.ring.acquire_write()
        assert slot is not None, f"All slots of {self.source} are in use."
        slot.fit(self._shape)[:] = value
        slot.commit(claims)
        seq, self._seq = self._seq, self._seq + 1
        return make_frame(
            self.source, seq, slot=slot, captured_mono_ns=captured_mono_ns, **self._size, **fields
        )

    def close(self):
        """Free the slots. Raises BusyError if a frame still claims one."""
        self.ring.close(timeout_s=0.0)
