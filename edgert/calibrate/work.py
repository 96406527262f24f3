"""The folder of one calibration: what each stage has made, kept for a run that goes on after a stop."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgert.disk import replace_file
from edgert.errors import BusyError, ConfigError

T = TypeVar("T")

_KEY_BYTES = 32


class WorkFolder:
    """Results by name, each with the key of what it was made from. A result of another key is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, name: str, key: bytes, kind: type[T]) -> T | None:
        """Return a result, or None if there is none of this key. Raises ConfigError if it cannot be read."""
        content = self.read(name)
        if content is None or content[:_KEY_BYTES] != key:
            return None
        try:
            return msgspec.msgpack.decode(content[_KEY_BYTES:], type=kind)
        except (msgspec.MsgspecError, ValueError):
            return None  # damaged: made again

    def save(self, name: str, key: bytes, value: Any) -> None:
        """Keep a result in place of the one before. Raises ConfigError."""
        self.write(name, key + msgspec.msgpack.encode(value))

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if it is not there. Raises ConfigError."""
        file = self.path / name
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> Path:
        """Write a file, down to the disk, all of it or nothing; return it. Raises ConfigError.

        A file that holds just that already is left alone.
        """
        file = self.path / name
        if self.read(name) == content:
            return file
        try:
            replace_file(file, content)
        except OSError as error:
            raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
        return file

    def remove(self, names: Collection[str]) -> None:
        """Remove files, but nothing else that somebody has put there. Raises ConfigError."""
        for path in (self.path / name for name in names):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigError(f"{path}: cannot be removed: {error.strerror}") from error

    def remove_partial(self, names: Collection[str]) -> None:
        """Remove what a process that was killed has written of these files."""
        for name in names:
            for path in self.path.glob(f".{name}.*"):
                if path.suffix[1:].isdecimal():
                    path.unlink(missing_ok=True)


@contextmanager
def open_work_folder(path: Path) -> Iterator[WorkFolder]:
    """Make the folder if it is absent, and keep other calibrations out of it.

    A folder that is empty at the end is not left behind.

    Raises:
        ConfigError: it cannot be made.
        BusyError: another calibration uses it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}") from error
    try:
        _lock(handle, path)
        try:
            yield WorkFolder(path)
        finally:
            with contextlib.suppress(OSError):  # it holds something
                path.rmdir()
    finally:
        os.close(handle)


def key_of(*parts: Any) -> bytes:
    """Return a digest of plain values, structs and bytes."""
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).digest()


def _lock(handle: int, path: Path) -> None:
    busy = BusyError(f"{path}: another `edgert calibrate` is working there; wait for its end")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(handle).st_nlink:  # that one has just removed the folder
            raise busy
    except BlockingIOError:
        raise busy from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be locked: {error.strerror}") from error
