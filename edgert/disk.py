"""Files that are on the disk when a call returns, and survive a loss of power whole."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(file: Path, content: bytes | memoryview) -> None:
    """Put content in the place of a file: a reader, or who comes after a crash, sees the old or the new.

    Raises:
        OSError: it cannot be written; then the old file is there still, and nothing else.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write_file(partial, content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(file.parent)


def write_file(file: Path, content: bytes | memoryview) -> None:
    """Write a file where nobody looks yet. The folder is to be synced afterwards. Raises OSError."""
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder down to the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
