"""Frames that lie on disk already: pictures, and what was sampled before. They stay where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np

from edgert.calibrate.sample.candidate import Candidate, PictureFile
from edgert.calibrate.sample.options import SampleOptions
from edgert.calibrate.sample.sample_set import SAMPLE_FILE, SampleFrame, load_sample_set
from edgert.capture.picture_file import list_pictures, read_frame, read_picture
from edgert.errors import ConfigError, FrameError

NAMED = 3  # unreadable pictures that a warning names


class PictureFrames:
    """Pictures of files, each content once. `files` are in the order in which they are read.

    A picture that cannot be read is skipped and counted; after `enough` good ones no more are read.
    """

    is_in_order = False

    def __init__(self, files: Sequence[Path], enough: int) -> None:
        self.total = min(len(files), enough)
        self._files = files
        self._enough = enough
        self._hashes: set[bytes] = set()
        self._skipped: list[str] = []
        self._copies = 0

    def read(self) -> Generator[Candidate, None, None]:
        """Yield the pictures."""
        for number, file in enumerate(self._files):
            if len(self._hashes) >= self._enough:
                return
            try:
                picture = read_picture(file)
            except FrameError as error:
                self._skipped.append(f"{file}: {error}")
                continue
            digest = hashlib.sha256(picture.content)
            if digest.digest() in self._hashes:
                self._copies += 1
                continue
            self._hashes.add(digest.digest())
            where, taken_ns = f"{file.parent}#{number}", file.stat().st_mtime_ns
            yield Candidate(picture.image_bgr, "bgr8", where, taken_ns, PictureFile(file, digest.hexdigest()))

    def warnings(self) -> list[str]:
        """Return what was skipped."""
        found = []
        if self._skipped:
            more = "; ..." if len(self._skipped) > NAMED else ""
            named = "; ".join(self._skipped[:NAMED])
            found.append(f"{len(self._skipped)} pictures cannot be used and were skipped: {named}{more}")
        if self._copies:
            found.append(f"{self._copies} pictures are copies of others and were left out")
        return found


class RecordedFrames:
    """The frames of an earlier sampling, in the order in which they were captured."""

    is_in_order = True

    def __init__(self, recording: Path, every: int, max_frames: int) -> None:
        """Raises ConfigError if it is none, or has changed since."""
        file = recording / SAMPLE_FILE if recording.is_dir() else recording
        sample_set = load_sample_set(file)
        frames = sorted(sample_set.frames(), key=lambda frame: (frame.captured_utc_ns, frame.file))
        self._folder = file.parent
        self._frames = frames[::every][: max_frames or None]
        self.total = len(self._frames)

    def read(self) -> Generator[Candidate, None, None]:
        """Yield the frames. Raises ConfigError if one has become unreadable."""
        for frame in self._frames:
            yield self._candidate(frame)

    def warnings(self) -> list[str]:
        """Return nothing: a recording is whole or refused."""
        return []

    def _candidate(self, frame: SampleFrame) -> Candidate:
        path = (self._folder / frame.file).absolute()
        try:
            image, pixel_format = read_frame(path)
        except FrameError as error:
            raise ConfigError(f"{path}: cannot be used: {error}") from error
        file = PictureFile(path, frame.sha256)
        return Candidate(image, pixel_format, frame.source, frame.captured_utc_ns, file)


def open_pictures(sample: SampleOptions, folder: Path) -> PictureFrames:
    """Return the frames of `sample.pictures`; relative paths begin at `folder`. Raises ConfigError.

    Where every picture alike may be chosen, they come in a seeded order, so that only those are read that
    are needed.
    """
    paths = [folder / Path(path).expanduser() for path in sample.pictures]
    listed = dict.fromkeys(file.absolute() for file in list_pictures(paths, "[sample] pictures"))
    files = list(listed)[:: sample.every]
    enough = sample.max_frames or len(files)
    if sample.choice == "reservoir":
        order = np.random.default_rng(sample.seed).permutation(len(files))
        files = [files[index] for index in order]
        enough = min(enough, sample.wanted)
    return PictureFrames(files, enough)
