"""How exactly the kernel wakes a thread that sleeps."""

from __future__ import annotations

import ctypes

_PR_SET_TIMERSLACK = 29  # linux/prctl.h
EXACT_NS = 1


def wake_exactly() -> bool:
    """Let the calling thread's waits end within microseconds of their time; False where that cannot be set.

    By default Linux may wake a thread 50 µs late, to wake several at once. A batch on a GPU takes a few
    hundred microseconds.
    """
    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, EXACT_NS, 0, 0, 0) == 0)
    except AttributeError:  # not Linux
        return False
