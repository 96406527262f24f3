"""Frames of streams as lossless PNG files in a folder of their own.

A file is `<number>.png`, or `<number>.<format>.png` where the pixels are not BGR: nv12 keeps its planes, so
that a frame is prepared from the very bytes that the service would have had.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgert.calibrate.sample.candidate import PictureFile
from edgert.capture.picture import encode_png
from edgert.capture.picture_file import read_picture
from edgert.disk import sync_folder
from edgert.errors import ConfigError
from edgert.frames.result import Array

FOLDER = "frames"
PARTIAL = ".partial"
FLAT_FORMATS = ("gray8", "nv12")  # one plane, as a PNG has it
_OWN = re.compile(r"\d{6,}(\.(gray8|nv12))?\.png(\.partial)?")
_FORMAT = re.compile(r"\d{6,}\.(gray8|nv12)\.png")


class FrameFolder:
    """`<work>/frames`, which belongs to the sampler alone. Nothing in it is touched before the first `write`.

    That one removes what an interrupted sampling has left there.
    """

    def __init__(self, work: Path) -> None:
        self._folder = work / FOLDER
        self._is_open = False

    def write(self, number: int, image: Array, pixel_format: str) -> PictureFile:
        """Write a frame, whole or not at all. Raises ConfigError if the disk refuses it."""
        self._open()
        is_flat = pixel_format in FLAT_FORMATS
        name = f"{number:06}.{pixel_format}.png" if is_flat else f"{number:06}.png"
        content = encode_png(image[:, :, ::-1] if pixel_format == "rgb8" else image)
        path = self._folder / name
        partial = path.with_name(f"{name}{PARTIAL}")
        with _told_of(path):
            try:
                partial.write_bytes(content)
                partial.rename(path)
            finally:
                partial.unlink(missing_ok=True)
        return PictureFile(path, hashlib.sha256(content).hexdigest())

    def remove(self, path: Path) -> None:
        """Remove a frame that was written here; any other file stays."""
        if path.parent == self._folder:
            path.unlink(missing_ok=True)

    def keep(self, paths: Collection[Path]) -> None:
        """Bring these down to the disk and remove the others. Raises ConfigError."""
        if not self._is_open:
            return
        with _told_of(self._folder):
            for path in self._own_files():
                if path in paths:
                    _sync_file(path)
                else:
                    path.unlink()
            sync_folder(self._folder)

    def discard(self) -> None:
        """Remove all frames, and the folder if it is empty then."""
        if self._is_open:
            with contextlib.suppress(OSError):
                self._clear()
                self._folder.rmdir()

    def _open(self) -> None:
        if not self._is_open:
            with _told_of(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._clear()
            self._is_open = True

    def _clear(self) -> None:
        for path in self._own_files():
            path.unlink()

    def _own_files(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if _OWN.fullmatch(path.name)]


@contextmanager
def open_frame_folder(work: Path) -> Iterator[FrameFolder]:
    """Yield the folder; after an error, Ctrl-C among them, nothing of it is left."""
    folder = FrameFolder(work)
    try:
        yield folder
    except BaseException:
        folder.discard()
        raise


def read_frame(path: Path) -> tuple[Array, str]:
    """Return a frame's pixels and their format. Raises FrameError if it cannot be read."""
    image_bgr = read_picture(path).image_bgr
    flat = _FORMAT.fullmatch(path.name)
    if flat is None or path.parent.name != FOLDER:
        return image_bgr, "bgr8"
    return np.ascontiguousarray(image_bgr[:, :, 0]), flat[1]


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a ConfigError that names the path."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _sync_file(path: Path) -> None:
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
