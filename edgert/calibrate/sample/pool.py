"""The frames that are kept while a source is sampled, each in the place that the choice gave it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgert.calibrate.sample.candidate import Candidate, PictureFile
from edgert.calibrate.sample.choice import FrameChoice
from edgert.calibrate.sample.frame_files import FrameFolder
from edgert.calibrate.sample.sample_set import SampleFrame


class Kept(msgspec.Struct, frozen=True):
    """A frame that is kept for now."""

    number: int  # of the frame, of all that were offered
    file: PictureFile
    source: str
    captured_utc_ns: int

    def listed(self, work: Path) -> SampleFrame:
        """Return the frame as the list of samples in `work` has it."""
        path = self.file.path
        name = str(path.relative_to(work)) if path.is_relative_to(work) else str(path.absolute())
        return SampleFrame(name, self.file.sha256, self.source, self.captured_utc_ns)


class SamplePool:
    """Offers frames to a choice, and writes those that it keeps and that are not on disk already."""

    def __init__(self, choice: FrameChoice, folder: FrameFolder) -> None:
        self._choice = choice
        self._folder = folder
        self._kept: dict[int, Kept] = {}
        self.offered = 0

    def offer(self, candidate: Candidate) -> None:
        """Let the choice have its say. What falls out is removed. Raises ConfigError if the disk is full."""
        number = self.offered
        self.offered += 1
        place = self._choice.place_for(candidate.image, candidate.format)
        if place is None:
            return
        file = candidate.file or self._folder.write(number, candidate.image, candidate.format)
        previous = self._kept.get(place)
        self._kept[place] = Kept(number, file, candidate.source, candidate.captured_utc_ns)
        if previous is not None:
            self._folder.remove(previous.file.path)

    def chosen(self, count: int) -> list[Kept]:
        """Return at most `count` frames in the order in which they came, each picture once."""
        preferred: dict[str, Kept] = {}
        for place in self._choice.chosen(len(self._kept)):
            kept = self._kept[place]
            preferred.setdefault(kept.file.sha256, kept)
        return sorted(list(preferred.values())[:count], key=lambda kept: kept.number)
