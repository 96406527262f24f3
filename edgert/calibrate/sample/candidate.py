"""A frame that may become a sample, and what gives such frames."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Protocol

import msgspec

from edgert.frames.result import Array


class PictureFile(msgspec.Struct, frozen=True):
    """A picture on disk."""

    path: Path
    sha256: str


class Candidate(msgspec.Struct, gc=False, eq=False):
    """One frame that the choice may keep. The pixels are valid until the next frame is asked for."""

    image: Array  # uint8, see `frames.frame`
    format: str  # of the pixels, one of RAW_FORMATS
    source: str  # where it comes from, passwords masked, with '#' and its number there
    captured_utc_ns: int  # of a clip, see `clip_time`; 0: the source has no time
    file: PictureFile | None = None  # where it lies already; None: it has to be written


class Frames(Protocol):
    """Frames one after another, on the caller's thread, once."""

    is_in_order: bool  # of time, so that neighbours are alike
    total: int  # frames that will come; 0: unknown

    def read(self) -> Generator[Candidate, None, None]:
        """Yield frames. Closing the iterator closes what is behind it.

        Raises:
            SourceError: no more come, and that is a failure.
            ConfigError: what was asked for cannot be.
        """

    def warnings(self) -> list[str]:
        """Return what was refused or left out so far, for people."""
