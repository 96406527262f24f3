"""What the capture loop asks of a source of frames."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edgert.frames.frame import Reply
from edgert.frames.slots import Slot


class Captured(msgspec.Struct, gc=False):
    """What a source says of the picture it just wrote into a slot, or discarded."""

    format: str
    height: int
    width: int
    captured_mono_ns: int
    captured_utc_ns: int
    model: str | None = None
    reply: Reply | None = None


class Source(Protocol):
    """Delivers frames, one at a time, to the one thread that opened it."""

    def open(self) -> None:
        """Connect, or begin to. May be called again after `close`. Raises SourceError."""

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Write the next frame into `slot` (`slot.fit(shape)` gives the array), or discard it if None.

        Blocks at most about `timeout_s`; returns None if no frame came. A discarded frame is described
        like any other, so that it can be counted and its sender refused.

        Raises:
            FrameError: this frame was refused and is gone; the source goes on.
            EndOfSourceError: there are no more frames.
            SourceError: the source is broken; close and open it again.
        """

    def tend(self, timeout_s: float) -> None:
        """Take no frame, but send the answers that come within `timeout_s`; return at once if none can."""

    def close(self) -> None:
        """Disconnect and free everything. Allowed at any time, also when not open."""

    def take_counts(self) -> dict[str, int]:
        """Return and reset what was lost outside `read`, by name (`gap`, `unsent_answer`, ...)."""

    def helper_cpu_ns(self) -> int:
        """Return the processor time of threads that the source has started, ended ones too."""
