"""A video file as a source: in real time or as fast as possible, once or looped."""

from __future__ import annotations

from pathlib import Path

from edgert.capture.pace import Clock, Pacer
from edgert.capture.source import Captured
from edgert.capture.video import FFMPEG, Video
from edgert.errors import ClosedError, EndOfSourceError
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts


class ClipSource:
    """Plays a file. What its header says of its length is not believed: it ends where frames end.

    `frames_per_s`: None is the clip's own rate, 0 as fast as possible.
    """

    def __init__(
        self,
        path: Path,
        *,
        frames_per_s: float | None = None,
        is_looped: bool = False,
        copies: CopyCounts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._path = path
        self._frames_per_s = frames_per_s
        self._is_looped = is_looped
        self._copies = copies or CopyCounts()
        self._clock = clock or Clock()
        self._video: Video | None = None
        self._pacer = Pacer(0, self._clock)
        self._played = 0  # frames since the clip's beginning

    def open(self) -> None:
        """Open the file at its beginning. Raises SourceError if it is missing or no video."""
        self._video = self._begin()
        rate = self._video.frames_per_s if self._frames_per_s is None else self._frames_per_s
        self._pacer = Pacer(rate, self._clock)
        self._pacer.start()

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Decode the next frame into `slot` when its time has come."""
        if not self._pacer.is_due(timeout_s):
            return None
        video = self._advance()
        if slot is not None:
            video.retrieve_into(slot)
        height, width = video.shape[:2]
        now_ns = self._clock.monotonic_ns()
        return Captured(video.format, height, width, now_ns, self._clock.utc_ns())

    def tend(self, timeout_s: float) -> None:
        """Do nothing: nobody waits for an answer."""

    def close(self) -> None:
        """Close the file."""
        video, self._video = self._video, None
        if video is not None:
            video.close()

    def take_counts(self) -> dict[str, int]:
        """Return nothing: a file loses no frames."""
        return {}

    def helper_cpu_ns(self) -> int:
        """Return 0: this source has no threads of its own."""
        return 0

    def _begin(self) -> Video:
        self._played = 0
        return Video(str(self._path), FFMPEG, (), self._copies)

    def _advance(self) -> Video:
        """Return the video with its next frame grabbed."""
        if self._video is None:
            raise ClosedError(f"{self._path} is not open.")
        if not self._video.grab():
            self._video = self._rewind(self._video)
        self._played += 1
        return self._video

    def _rewind(self, video: Video) -> Video:
        """Return the clip opened anew, with its first frame grabbed. Raises EndOfSourceError."""
        if not self._played:
            raise EndOfSourceError(f"{self._path} holds no frame that can be decoded.")
        if not self._is_looped:
            raise EndOfSourceError(f"{self._path} has been played, {self._played} frames.")
        self.close()
        video = self._begin()
        video.grab()
        return video
