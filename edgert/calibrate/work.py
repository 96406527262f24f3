"""The folder of one calibration: what each stage has made, kept for a run that goes on after a stop."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgert.calibrate.sample.sample_set import sync_folder
from edgert.errors import BusyError, ConfigError

T = TypeVar("T")

_KEY_BYTES = 32


class WorkFolder:
    """Results by name, each with the key of what it was made from. A result of another key is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self, name: str, key: bytes, kind: type[T]) -> T | None:
        """Return a result, or None if there is none of this key. Raises ConfigError if it cannot be read."""
        file = self.path / name
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
        if content[:_KEY_BYTES] != key:
            return None
        try:
            return msgspec.msgpack.decode(content[_KEY_BYTES:], type=kind)
        except (msgspec.MsgspecError, ValueError):
            return None  # damaged: made again

    def save(self, name: str, key: bytes, value: Any) -> None:
        """Keep a result in place of the one before. Raises ConfigError."""
        self.write(name, key + msgspec.msgpack.encode(value))

    def write(self, name: str, content: bytes) -> Path:
        """Write a file, down to the disk, all of it or nothing; return it. Raises ConfigError."""
        file = self.path / name
        partial = file.with_name(f"{name}.partial")
        try:
            try:
                with partial.open("wb") as opened:
                    opened.write(content)
                    opened.flush()
                    os.fsync(opened.fileno())
                partial.rename(file)
                sync_folder(self.path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
        return file


@contextmanager
def open_work_folder(path: Path) -> Iterator[WorkFolder]:
    """Make the folder if it is absent, and keep other calibrations out of it.

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
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield WorkFolder(path)
    except BlockingIOError:
        raise BusyError(f"{path}: another `edgert calibrate` is working there; wait for its end") from None
    finally:
        os.close(handle)


def key_of(*parts: Any) -> bytes:
    """Return a digest of plain values, structs and bytes."""
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()
