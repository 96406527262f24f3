"""Pictures in files, for what a person runs beside the service."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from edgert.errors import ConfigError, FrameError
from edgert.frames.result import Array

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 64 << 20
FRAMES_FOLDER = "frames"  # where `edgert calibrate` keeps frames of streams
FLAT_FORMATS = ("gray8", "nv12")  # one plane, as a PNG has it
_FLAT_FRAME = re.compile(r"\d{6,}\.(gray8|nv12)\.png")
_SIGNATURES = {b"\x89PNG": "png", b"\xff\xd8": "jpeg"}


class PictureContent(msgspec.Struct, frozen=True, eq=False):
    """A file as it is, and the picture in it."""

    content: bytes
    image_bgr: Array  # (h, w, 3) uint8


def list_pictures(paths: Iterable[Path], asked_by: str) -> tuple[Path, ...]:
    """Return the pictures among `paths`, and those in the folders among them, sorted in each folder.

    `asked_by` is the option that named them. Raises ConfigError if one is absent, or there is no picture.
    """
    paths = tuple(paths)
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{asked_by} {path}: no such file or folder")
        found += [file for file in _inside(path, asked_by) if file.suffix.lower() in SUFFIXES]
    if paths and not found:
        raise ConfigError(
            f"{asked_by} {paths[0]}: holds no picture, expected files ending in {', '.join(SUFFIXES)}"
        )
    return tuple(found)


def _inside(path: Path, asked_by: str) -> list[Path]:
    try:
        return sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError as error:
        raise ConfigError(f"{asked_by} {path}: cannot be read: {error.strerror}") from error


def read_picture(file: Path) -> PictureContent:
    """Return a JPEG or PNG; what it is, its first bytes say. Raises FrameError if it cannot be used."""
    from edgert.capture.picture import decode_picture, picture_size  # OpenCV only where there are pictures

    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise FrameError(error.strerror or str(error)) from error
    if len(content) > MAX_BYTES:
        raise FrameError(f"has more than {MAX_BYTES} bytes")
    kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
    if kind is None:
        raise FrameError(f"begins with {content[:4]!r}, which is neither JPEG nor PNG")
    picture_size(kind, content)
    return PictureContent(content, decode_picture(kind, content))


def read_frame(file: Path) -> tuple[Array, str]:
    """Return a picture's pixels and their format: BGR, or of a kept frame what its name says.

    Raises FrameError if it cannot be read.
    """
    image_bgr = read_picture(file).image_bgr
    flat = _FLAT_FRAME.fullmatch(file.name)
    if flat is None or file.parent.name != FRAMES_FOLDER:
        return image_bgr, "bgr8"
    return np.ascontiguousarray(image_bgr[:, :, 0]), flat[1]
