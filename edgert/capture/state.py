"""What can be said of a source while it runs."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgert.stats import Tally

# connecting  not yet a frame since the start
# online      frames come, or can come
# stalled     open, but no frame for `stall_s`
# offline     could not be opened, or broke; tried again after a pause
# disabled    paused by somebody; not open
# ended       no more frames will come
SourceState = Literal["connecting", "online", "stalled", "offline", "disabled", "ended"]


class SourceSummary(msgspec.Struct, frozen=True):
    """One source at one moment."""

    state: SourceState
    reason: str  # why it is in this state; empty while all is well
    frames: int  # that arrived: those handed on, and all of `refused`
    refused: dict[str, int]  # frames that arrived and were not handed on, by reason
    lost: dict[str, int]  # what never arrived (`gap`), could not be returned (`unsent_answer`,
    # `unencoded_answer`), or broke the source in a way that nobody foresaw (`unforeseen`)
    reconnects: int
    last_frame_mono_ns: int  # 0: none yet
    cpu_ns: int  # processor time of the source's threads: the reader's, and a camera's grabber's


class SourceStats:
    """Numbers that one capture thread writes and any thread may read."""

    def __init__(self) -> None:
        self.frames = 0
        self.refused = Tally()
        self.lost = Tally()
        self.reconnects = 0
        self.last_frame_mono_ns = 0
        self.cpu_ns = 0
        self.state: SourceState = "connecting"
        self.reason = ""

    def summary(self) -> SourceSummary:
        """Return a copy of all numbers."""
        return SourceSummary(
            self.state,
            self.reason,
            self.frames,
            self.refused.snapshot(),
            self.lost.snapshot(),
            self.reconnects,
            self.last_frame_mono_ns,
            self.cpu_ns,
        )
