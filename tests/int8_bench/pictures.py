"""Pictures for the classifier, split so that no scene is on both sides, and frames of clips."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgert.errors import SourceError
from edgert.frames.result import Array

SUFFIXES = (".jpg", ".png")
SIDE_MIN = 160
COLOUR_MIN = 10.0  # mean difference between a pixel's channels; below it a picture counts as gray
LEVELS_MIN = 64  # different values of gray; masks and drawings have fewer
ALIKE_MIN = 0.85  # correlation of two thumbnails
THUMBNAIL = 16
HELD_OUT_A_FAMILY = 3
CALIBRATION_A_FAMILY = 4
_SAME_SCENE = {"right": "left"}  # the two eyes of a stereo camera


class Picture(NamedTuple):
    """A picture of a set, small: what is needed to say which others it is like."""

    path: Path
    family: str
    is_coloured: bool


class Split(NamedTuple):
    """Two sides without a common family."""

    calibration: list[Path]
    held_out: list[Path]


def split_pictures(pictures: Sequence[Picture], held_out: int) -> Split:
    """Hold out so many coloured pictures, a few a family, families in an order that only names decide.

    Of each family that is not held out, a few calibrate; the others of either are left out.
    """
    families: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        families[picture.family].append(picture)
    split = Split([], [])
    for _, members in sorted(families.items(), key=lambda item: hashlib.sha256(item[0].encode()).digest()):
        coloured = sorted(member.path for member in members if member.is_coloured)
        room = held_out - len(split.held_out)
        if room and coloured:
            split.held_out.extend(coloured[: min(room, HELD_OUT_A_FAMILY)])
        else:
            split.calibration.extend(sorted(member.path for member in members)[:CALIBRATION_A_FAMILY])
    return split


def read_pictures(folder: Path) -> list[Picture]:
    """Return the photographs below a folder that are large enough, families given by name and by looks."""
    paths, thumbnails, are_coloured = [], [], []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
        image = cv2.imread(str(path))
        if image is not None and _is_photograph(image):
            paths.append(path)
            thumbnails.append(_thumbnail(image))
            are_coloured.append(bool(np.ptp(image, axis=2).mean() >= COLOUR_MIN))
    families = join_families([family_by_name(path.stem) for path in paths], np.array(thumbnails))
    return [Picture(*row) for row in zip(paths, families, are_coloured, strict=True)]


def family_by_name(stem: str) -> str:
    """Return the first word of a file's name, without its number or the letter of one of a pair.

    `aloeL` and `aloeR` are `aloe`, `ela_modified` is `ela`, `graf3` is `graf`, `000` stays.
    """
    word = re.match(r"[a-z]+|[A-Z]?[a-z]+", stem)
    name = word.group().lower() if word else stem
    return _SAME_SCENE.get(name, name)


def join_families(families: Sequence[str], thumbnails: Array) -> list[str]:
    """Return the families, those joined that hold two pictures that look alike.

    `thumbnails` are (n, pixels), each of mean 0 and length 1.
    """
    joined = list(families)
    alike = np.argwhere(np.triu(thumbnails @ thumbnails.T >= ALIKE_MIN, 1))
    for one, other in alike:
        kept, gone = sorted((joined[one], joined[other]))
        joined = [kept if family == gone else family for family in joined]
    return joined


def crops(image: Array, part: float = 0.6) -> Iterator[Array]:
    """Yield a picture's four corners, each so much of either side."""
    height, width = (round(side * part) for side in image.shape[:2])
    yield image[:height, :width]
    yield image[:height, -width:]
    yield image[-height:, :width]
    yield image[-height:, -width:]


def clip_frames(clip: Path, numbers: Iterable[int]) -> Iterator[Array]:
    """Yield the frames with these numbers, (height, width, 3) BGR, in order.

    Raises:
        SourceError: the clip cannot be opened or ends before the last of them.
    """
    wanted = sorted(set(numbers))
    capture = cv2.VideoCapture(str(clip))
    try:
        for number in range(wanted[-1] + 1):
            is_read, frame = capture.read()
            if not is_read:
                raise SourceError(f"{clip} ends at frame {number}; the bench needs frame {wanted[-1]}.")
            if number in wanted:
                yield frame
    finally:
        capture.release()


def spread(first: int, end: int, count: int) -> list[int]:
    """Return `count` whole numbers from `first` up to, not including, `end`, evenly apart."""
    return [first + (end - first) * index // count for index in range(count)]


def _is_photograph(image: Array) -> bool:
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return min(gray.shape) >= SIDE_MIN and len(np.unique(gray)) >= LEVELS_MIN


def _thumbnail(image: Array) -> Array:
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    pixels = small.astype(np.float64).ravel() - small.mean()
    return np.asarray(pixels / (np.linalg.norm(pixels) + 1e-9))
