"""Small files that the kernel writes anew each time they are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def read_text(path: Path) -> str:
    """Return a file's text; empty where it is not there, not for us, or its sensor is off."""
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def read_number(path: Path) -> float | None:
    """Return a file's one number; None where there is none to be had."""
    try:
        return float(read_text(path))
    except ValueError:
        return None


def first_number(paths: Iterable[Path]) -> Path | None:
    """Return the first of these files that has a number."""
    return next((path for path in paths if read_number(path) is not None), None)
