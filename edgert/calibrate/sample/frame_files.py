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

from edgert.calibrate.sample.candidate import PictureFile
from edgert.capture.picture import encode_png
from edgert.capture.picture_file import FLAT_FORMATS, FRAMES_FOLDER
from edgert.disk import sync_folder
from edgert.errors import ConfigError
from edgert.frames.result import Array

MARKER = ".edgert"  # an empty file in the folder: edgert made it, and may remove its own names there
PARTIAL = ".partial"
_OWN = re.compile(r"\d{6,}(\.(gray8|nv12))?\.png(\.partial)?")


class FrameFolder:
    """`<work>/frames`, which belongs to the sampler alone. Nothing in it is touched before the first `write`.

    That one removes what an interrupted sampling has left there, and refuses a folder that holds files and
    that edgert has not made.
    """

    def __init__(self, work: Path) -> None:
        self._folder = work / FRAMES_FOLDER
        self._is_open = False

    def write(self, number: int, image: Array, pixel_format: str) -> PictureFile:
        """Write a frame, whole or not at all. Raises ConfigError if disk or folder refuses it."""
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
        """Remove all frames that were written, and the folder if it is empty then."""
        if self._is_open:
            with contextlib.suppress(OSError):
                self.remove_all()

    def check(self) -> None:
        """Raise ConfigError if the folder holds files and was not made by edgert."""
        with _told_of(self._folder):
            if self._folder.is_dir() and not self._is_marked and any(self._folder.iterdir()):
                raise ConfigError(
                    f"{self._folder}: holds files, and edgert has not made this folder; nothing was removed. "
                    "Move it, or name another folder with work in the recipe"
                )

    def remove_all(self) -> None:
        """Remove edgert's own frames, and the folder if it is empty then. Raises OSError."""
        if not self._is_marked:
            return
        self._clear()
        if [path.name for path in self._folder.iterdir()] == [MARKER]:
            (self._folder / MARKER).unlink()
            self._folder.rmdir()

    @property
    def _is_marked(self) -> bool:
        return (self._folder / MARKER).is_file()

    def _open(self) -> None:
        if not self._is_open:
            with _told_of(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                self.check()
                (self._folder / MARKER).touch()
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


def check_frames(work: Path) -> None:
    """Raise ConfigError if `remove_frames` would not remove what is in the folder of frames."""
    FrameFolder(work).check()


def remove_frames(work: Path) -> None:
    """Remove the frames that edgert has kept, and nothing that somebody else has put there.

    Raises ConfigError if the disk refuses.
    """
    folder = work / FRAMES_FOLDER
    try:
        FrameFolder(work).remove_all()
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be removed: {error.strerror}") from error


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
