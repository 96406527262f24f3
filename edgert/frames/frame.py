"""A frame's header. Pixels stay in a slot; the header says what they are."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec
import numpy as np

from edgert.errors import EdgertError, FrameError
from edgert.frames.result import Result
from edgert.frames.slots import Slot

# Pixel formats that a slot may hold: image shape from (height, width), all uint8.
#   bgr8, rgb8: (h, w, 3); gray8: (h, w); nv12: (h * 3 / 2, w), Y rows, then interleaved UV rows.
RAW_FORMATS = ("bgr8", "rgb8", "gray8", "nv12")


class Reply(Protocol):
    """Where the sender of a request waits for its answer. Any thread may call, once."""

    def answer(self, result: Result) -> None:
        """Send the result."""

    def refuse(self, error: EdgertError) -> None:
        """Send the error's status and message instead."""


class Frame(msgspec.Struct, gc=False, eq=False):
    """One picture on its way. The slot is claimed for it until the last reader releases."""

    source: str
    seq: int  # counts every frame that the source captured, from 0
    format: str  # one of RAW_FORMATS
    height: int
    width: int
    captured_mono_ns: int  # time.monotonic_ns when the frame had arrived
    captured_utc_ns: int  # the sender's clock if it gave one
    slot: Slot
    model: str | None = None  # the model that a request asked for
    reply: Reply | None = None
    taps: tuple[Any, ...] = ()  # who wants the pixels with the result; each has a claim on the slot

    def image(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the pixels as an array over the slot, no copy, valid while the slot is claimed."""
        return self.slot.view(image_shape(self.format, self.height, self.width))


def image_shape(pixel_format: str, height: int, width: int) -> tuple[int, ...]:
    """Return the uint8 array shape of a picture. Raises FrameError on an impossible one."""
    if height <= 0 or width <= 0:
        raise FrameError(f"Frame size {width}x{height} is not positive.")
    if pixel_format in ("bgr8", "rgb8"):
        return (height, width, 3)
    if pixel_format == "gray8":
        return (height, width)
    if pixel_format == "nv12":
        if height % 2 or width % 2:
            raise FrameError(f"An nv12 frame needs even sides, not {width}x{height}.")
        return (height * 3 // 2, width)
    raise FrameError(f"Unknown pixel format {pixel_format!r}; expected one of {', '.join(RAW_FORMATS)}.")


def image_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes of a uint8 array of `shape`, exact for sizes of any magnitude."""
    size = 1
    for side in shape:
        size *= side
    return size
