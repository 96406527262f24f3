"""The bare loop, see `bare`, as a child that runs when it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.serve_bench.places import CORES

BARE = Path(__file__).with_name("bare.py")


class Bare(NamedTuple):
    """What it did when it ran."""

    runs: int
    seconds: float
    cpu_s: float
    per_s: float


class BareLoop:
    """A context manager; entered, it is warm and waits."""

    def __init__(self, model: Path, threads: int = CORES) -> None:
        self._command = [sys.executable, str(BARE), str(model), str(threads)]
        self._child: subprocess.Popen[str]

    def __enter__(self) -> BareLoop:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()

    def run(self, seconds: float) -> Bare:
        """Run for so long."""
        self._child.stdin.write(f"{seconds}\n")
        self._child.stdin.flush()
        return Bare(**json.loads(self._read()))

    def _read(self) -> str:
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError("the bare loop has ended")
        return line
