"""One thing that a build needs of this machine: there, fetched by the build itself, or missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from enum import Enum

import msgspec

VERSION_S = 20.0


class State(Enum):
    """Whether something is there, and what it means if it is not."""

    THERE = "there"
    FETCHED = "fetched"  # by the build, from a package registry
    MISSING = "missing"  # the build fails without it
    OPTIONAL = "optional"  # not there, and the build goes without


class Finding(msgspec.Struct, frozen=True):
    """`said` is the version and where it lies, or where it comes from."""

    what: str
    state: State
    said: str


def program_path(environment: Mapping[str, str], program: str) -> str | None:
    """Return where a program lies, by PATH or by its own path."""
    return shutil.which(program, path=environment.get("PATH", os.defpath))


def find_program(environment: Mapping[str, str], program: str, option: str, pattern: str) -> str | None:
    """Return a program's version, `pattern`'s group in what it prints for `option`, and its path.

    None if it is not there, does not run, or prints nothing that matches.
    """
    path = program_path(environment, program)
    if path is None:
        return None
    try:
        done = subprocess.run(
            [path, option], capture_output=True, text=True, env=environment, check=False, timeout=VERSION_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(pattern, done.stdout)
    return f"{match[1]}, {path}" if match and not done.returncode else None
