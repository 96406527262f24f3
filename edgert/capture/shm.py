"""Pixels that another process put into POSIX shared memory; a message says where."""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from edgert.errors import FrameError
from edgert.stats import LiveCount

SHM_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
MAX_OPEN = 16  # objects kept open for the next frame
_NAME = re.compile(r"/?([A-Za-z0-9_][A-Za-z0-9._-]{0,254})")


class ShmPlace(msgspec.Struct):
    """The payload of a `shm` frame."""

    name: Annotated[str, msgspec.Meta(max_length=256)]  # as given to shm_open, with or without its slash
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    bytes: Annotated[int, msgspec.Meta(gt=0, le=2**62)]
    format: Literal["bgr8", "rgb8", "gray8", "nv12"] = "bgr8"  # of the pixels


class ShmReader:
    """Copies pixels out of shared memory objects, keeping the last `MAX_OPEN` open.

    It reads them as files: a mapping would let a sender who truncates the object end this process
    with SIGBUS. The sender must leave the pixels alone until it is answered; if it does not wait for
    answers, a frame may be torn.
    """

    live: ClassVar[LiveCount] = LiveCount("shared memory object")

    def __init__(self, folder: Path = SHM_FOLDER) -> None:
        self._folder = folder
        self._open: OrderedDict[str, tuple[int, int]] = OrderedDict()  # name: descriptor, inode

    def read_into(self, place: ShmPlace, target: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
        """Copy `place` into `target`, a contiguous array of its size. Raises FrameError."""
        try:
            descriptor = self._descriptor(_checked_name(place.name))
            count = os.preadv(descriptor, [target.reshape(-1).data], place.offset)
        except OSError as error:
            raise FrameError(f"Shared memory {place.name!r} cannot be read: {error.strerror}.") from error
        if count != place.bytes:
            end = place.offset + place.bytes
            raise FrameError(
                f"Shared memory {place.name!r} ends at byte {place.offset + count}; the frame needs {end}."
            )

    def close(self) -> None:
        """Close all objects."""
        while self._open:
            self._drop(next(iter(self._open)))

    def _descriptor(self, name: str) -> int:
        path = self._folder / name
        known = self._open.get(name)
        if known is not None:
            if path.stat().st_ino == known[1]:
                self._open.move_to_end(name)
                return known[0]
            self._drop(name)  # its sender has made it anew
        return self._add(name, path)

    def _add(self, name: str, path: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise FrameError(f"Shared memory {name!r} is no shared memory object.")
        self._open[name] = (descriptor, status.st_ino)
        self.live.opened()
        if len(self._open) > MAX_OPEN:
            self._drop(next(iter(self._open)))
        return descriptor

    def _drop(self, name: str) -> None:
        os.close(self._open.pop(name)[0])
        self.live.closed()


def _checked_name(name: str) -> str:
    match = _NAME.fullmatch(name)
    if match is None:
        raise FrameError(
            f"Shared memory name {name!r}: expected letters, digits and ._- after an optional /."
        )
    return match[1]
