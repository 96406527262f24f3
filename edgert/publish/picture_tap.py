"""A tap whose pictures are retained at a broker, one of each source now and then."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edgert.errors import FrameError, SinkError
from edgert.frames.channel import ChannelStatistics
from edgert.frames.frame import Frame
from edgert.frames.result import Result
from edgert.publish import topics
from edgert.publish.complaint import Complaint
from edgert.publish.queued import SinkCounts
from edgert.publish.sink import Announcer, SinkPulse, SinkStats
from edgert.publish.snapshot import Snapshots

log = logging.getLogger(__name__)


class PictureTap:
    """A Tap. The JPEG is made on the thread that offers; a frame of several models makes one picture."""

    def __init__(self, name: str, prefix: str, snapshots: Snapshots, announcer: Announcer) -> None:
        self.name = name
        self._prefix = prefix  # the node's
        self._snapshots = snapshots
        self._announcer = announcer
        self._last: dict[str, int] = {}  # the frame of the last picture, by source
        self._counts = SinkCounts()
        self._complaint = Complaint(log, f"Sink {name}")

    def open(self) -> None:
        """Do nothing: the sink is open."""

    def wants(self, source: str, now_mono_ns: int) -> bool:
        """Say whether a picture is due."""
        return self._snapshots.wants(source, now_mono_ns)

    def give_back(self, source: str) -> None:
        """Let the next frame make the picture."""
        self._snapshots.give_back(source)

    def take_next(self, source: str) -> str:
        """Let the next frame make a picture, due or not; returns its complete topic."""
        self._snapshots.give_back(source)
        return self._prefix + topics.snapshot(source)

    def offer(self, frame: Frame, result: Result) -> None:
        """Make the picture and retain it. The caller may release its slot on return."""
        if self._last.get(frame.source) == frame.seq:
            return
        self._last[frame.source] = frame.seq
        try:
            jpeg = self._snapshots.encode(frame, result.output)
        except (SinkError, FrameError) as error:
            self._counts.failed += 1
            self._complaint.raised(str(error))
            return
        self._announcer.publish_retained(topics.snapshot(frame.source), jpeg, newest_only=True)
        self._counts.add_sent([frame.captured_mono_ns])

    def close(self, timeout_s: float) -> None:
        """Do nothing: nothing waits here."""

    def pulses(self) -> Sequence[SinkPulse]:
        """Return nothing: it has no thread."""
        return []

    def statistics(self) -> SinkStats:
        """Return what the tap did, in pictures."""
        counts = self._counts
        return SinkStats(
            sent=counts.sent,
            failed=counts.failed,
            dropped={},
            queue=ChannelStatistics(0, 0, 0, 0),
            acknowledged=0,
            refused=0,
            is_connected=True,
            latency=counts.latency.summary(),
        )
