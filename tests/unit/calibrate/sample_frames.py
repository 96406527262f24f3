"""Frames to sample, without a camera."""

from __future__ import annotations

import cv2
import numpy as np

from edgert.calibrate.sample.candidate import Candidate
from edgert.calibrate.sample.frame_files import MARKER
from edgert.calibrate.sample.options import SampleOptions

HEIGHT, WIDTH = 8, 10
BEGAN_UTC_NS = 1_700_000_000_000_000_000


def picture(number, height=HEIGHT, width=WIDTH):
    """Return a picture that no other number has."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def options_for(**options):
    """Return options with a source that is not opened; few frames, so that tests are quick."""
    if not {"source", "pictures", "recording", "tap"} & set(options):
        options["source"] = "replay:noise"
    return SampleOptions(**{"count": 6, "selection_count": 2, "held_out_count": 3, **options})


class ScriptedFrames:
    """Frames of a script: a picture, an exception to raise, or a function that returns such a step.

    They are `frames_s` apart; None: they have no time.
    """

    def __init__(self, script, *, is_in_order=True, total=0, pixel_format="bgr8", frames_s=10.0):
        self._frames_s = frames_s
        self.is_in_order = is_in_order
        self.total = total
        self.is_closed = False
        self._script = script
        self._format = pixel_format

    def read(self):
        try:
            for number, step in enumerate(self._script):
                step = step() if callable(step) else step
                if isinstance(step, BaseException):
                    raise step
                yield Candidate(step, self._format, f"script#{number}", self._utc_ns(number))
        finally:
            self.is_closed = True

    def warnings(self):
        return []

    def _utc_ns(self, number):
        return 0 if self._frames_s is None else BEGAN_UTC_NS + round(number * self._frames_s * 1e9)


def write_pictures(folder, numbers):
    """Write pictures as PNG and JPEG in turn; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.{'jpg' if number % 2 else 'png'}" for number in numbers]
    for path, number in zip(paths, numbers, strict=True):
        assert cv2.imwrite(str(path), picture(number))
    return paths


def files_in(folder):
    """Return the names of everything below a folder but edgert's markers."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return sorted(str(path.relative_to(folder)) for path in files)
