"""Pictures held in memory before the first one leaves: the same every time, for tests and measurements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgert.capture.pace import Clock, Pacer
from edgert.capture.source import Captured
from edgert.capture.video import FFMPEG, Picture, Video
from edgert.errors import ClosedError, ConfigError, EndOfSourceError
from edgert.frames.slots import Slot
from edgert.stats import CopyCounts

MAX_BYTES = 2 * 2**30  # what one replay may hold in memory


class ReplaySource:
    """Hands out pictures with one copy each, `frames_per_s` of them (0: as fast as they are taken).

    `load` is called by `open` and returns (h, w, 3) uint8 pictures, BGR. All are delivered once, or
    `total` in all, over and over; -1 is without end.
    """

    def __init__(
        self,
        load: Callable[[], Sequence[Picture]],
        *,
        frames_per_s: float = 0.0,
        total: int = 0,
        copies: CopyCounts | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._load = load
        self._total = total
        self._copies = copies or CopyCounts()
        self._clock = clock or Clock()
        self._pacer = Pacer(frames_per_s, self._clock)
        self._pictures: Sequence[Picture] = ()
        self._delivered = 0

    def open(self) -> None:
        """Load the pictures. Raises SourceError, or ConfigError if they are more than memory may hold."""
        self._pictures = self._load()
        self._delivered = 0
        self._pacer.start()

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        """Copy the next picture into `slot` when its time has come."""
        if not self._pictures:
            raise ClosedError("The replay is not open.")
        if self._delivered == (self._total or len(self._pictures)):
            raise EndOfSourceError(f"The replay has delivered its {self._delivered} frames.")
        if not self._pacer.is_due(timeout_s):
            return None
        picture = self._pictures[self._delivered % len(self._pictures)]
        self._delivered += 1
        if slot is not None:
            np.copyto(slot.fit(picture.shape), picture)
            self._copies.add("host_to_host", picture.nbytes)
        height, width, _ = picture.shape
        return Captured("bgr8", height, width, self._clock.monotonic_ns(), self._clock.utc_ns())

    def tend(self, timeout_s: float) -> None:
        """Do nothing: nobody waits for an answer."""

    def close(self) -> None:
        """Let the pictures go."""
        self._pictures = ()

    def take_counts(self) -> dict[str, int]:
        """Return nothing: memory loses no frames."""
        return {}

    def helper_cpu_ns(self) -> int:
        """Return 0: this source has no threads of its own."""
        return 0


def make_noise(width: int, height: int, count: int, seed: int) -> list[Picture]:
    """Return `count` pictures of random bytes, the same for the same arguments.

    Raises ConfigError if they are more than memory may hold.
    """
    _demand_room("noise", width * height * 3 * count)
    values = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    return list(values)


def decode_clip(path: Path, count: int) -> list[Picture]:
    """Return a clip's first `count` pictures; 0 is all.

    Raises:
        SourceError: the clip cannot be opened.
        EndOfSourceError: it holds no picture.
        ConfigError: they are more than memory may hold.
    """
    video = Video(str(path), FFMPEG, (), CopyCounts())
    pictures: list[Picture] = []
    try:
        while (not count or len(pictures) < count) and video.grab():
            pictures.append(video.retrieve())
            _demand_room(str(path), len(pictures) * pictures[0].nbytes)
    finally:
        video.close()
    if not pictures:
        raise EndOfSourceError(f"{path} holds no frame that can be decoded.")
    return pictures


def _demand_room(name: str, size_bytes: int) -> None:
    if size_bytes > MAX_BYTES:
        raise ConfigError(
            f"replay:{name} needs more than {MAX_BYTES >> 20} MiB of memory; "
            f"take fewer pictures, e.g. replay:{name}?frames=100"
        )
