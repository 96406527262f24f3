"""Says what is being done; to standard error, as the results are printed."""

from __future__ import annotations

import sys
import time

_start_s = time.monotonic()


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"[{time.monotonic() - _start_s:6.1f} s] {text}", file=sys.stderr, flush=True)
