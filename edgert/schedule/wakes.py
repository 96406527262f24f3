"""Where a thread sleeps until it is woken or its time is up."""

from __future__ import annotations

import threading


class Wakes:
    """Remembers one wake, however often it is given. One thread waits, any thread wakes.

    Not `queue.SimpleQueue`: until Python 3.12 its `get` may wait for ever where the timeout is a few
    microseconds, as the rest of the time, once negative, means no limit.
    """

    def __init__(self) -> None:
        self._is_quiet = threading.Lock()
        self._is_quiet.acquire()  # held while there is no wake

    def wake(self) -> None:
        """End the wait that runs, or else the next one at once."""
        try:
            self._is_quiet.release()
        except RuntimeError:  # there is a wake already
            return

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a wake; False if the time is up. 0 does not give the interpreter's lock away."""
        return self._is_quiet.acquire(
            timeout=-1 if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX)
        )
