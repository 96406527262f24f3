"""When the frames of a clip were, though it is read faster than it was taken."""

from __future__ import annotations

from pathlib import Path

from edgert.capture.video import FFMPEG, Video
from edgert.errors import ConfigError
from edgert.stats import CopyCounts


class ClipTime:
    """Counts from the time at which the clip's file was changed, at the clip's own rate.

    That is not when the frames were taken, but the same in each reading, and as far apart.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError, SourceError if there is no such clip."""
        try:
            self._began_utc_ns = path.stat().st_mtime_ns
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        video = Video(str(path), FFMPEG, (), CopyCounts())
        self._frames_per_s = video.frames_per_s
        video.close()

    def utc_ns(self, number: int) -> int:
        """Return the time of a frame by its number in the clip, from 0."""
        return self._began_utc_ns + round(number * 1e9 / self._frames_per_s)
