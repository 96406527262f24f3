"""Folders that the demo writes into: one that goes with it, and those that its user names."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgert.errors import ConfigError

_SWEEP = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a new folder that is gone after the block, and also if this process is killed within it.

    Another process removes it: it waits for the end of a pipe that only this one holds open.
    """
    folder = tempfile.mkdtemp(prefix="edgert-demo-")
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SWEEP, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield Path(folder)
    finally:
        sweeper.communicate()


def make_writable(folder: Path, option: str) -> None:
    """Make the folder that `option` names. Raises ConfigError if files cannot be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{option} {folder}: cannot be written into: {error.strerror}") from error


def make_empty(folder: Path, option: str) -> None:
    """Make the folder that `option` names. Raises ConfigError if it holds anything or is not writable."""
    make_writable(folder, option)
    if any(folder.iterdir()):
        raise ConfigError(f"{option} {folder}: is not empty; name a new folder, nothing is overwritten")
