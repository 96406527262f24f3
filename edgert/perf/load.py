"""When requests come: as many outstanding as asked for, or at times that were drawn before they are due.

Neither needs a thread for each request: the thread that drives the lanes asks what has come.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from edgert.perf.options import Arrivals, Level


class Load(Protocol):
    """Requests in the order in which they come. All times are of one monotonic clock."""

    def start(self, now_ns: int) -> None:
        """Begin. Called once."""

    def next_ns(self) -> int | None:
        """Return when the first request comes that was not taken; None: when another one is finished."""

    def take(self) -> int:
        """Take that request; return when it came."""

    def finish(self, now_ns: int) -> None:
        """Hear that a request was answered."""

    def stop(self, now_ns: int) -> None:
        """Let no request come that is not due by now."""


class ClosedLoad:
    """Keeps `concurrency` requests outstanding: each answer brings the next one."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._waiting: deque[int] = deque()
        self._is_stopped = False

    def start(self, now_ns: int) -> None:
        """Let all of them come."""
        self._waiting.extend([now_ns] * self._concurrency)

    def next_ns(self) -> int | None:
        """Return when the longest waiting one came."""
        return self._waiting[0] if self._waiting else None

    def take(self) -> int:
        """Take the longest waiting one."""
        return self._waiting.popleft()

    def finish(self, now_ns: int) -> None:
        """Let the next one come."""
        if not self._is_stopped:
            self._waiting.append(now_ns)

    def stop(self, now_ns: int) -> None:
        """Let nothing more come; those that wait were to come with an answer, and go."""
        self._is_stopped = True
        self._waiting.clear()


class OpenLoad:
    """Requests come at `rate_hz` on average, whether earlier ones were answered or not.

    A request that waits for a lane keeps the time at which it was due, so that waiting counts. The times
    depend on `seed` alone. `poisson`: independent of each other; `constant`: evenly spaced.
    """

    def __init__(self, rate_hz: float, arrivals: Arrivals, seed: int) -> None:
        self._period_s = 1.0 / rate_hz
        self._is_poisson = arrivals == "poisson"
        self._random = np.random.default_rng(seed)
        self._started_ns = 0
        self._at_s = 0.0  # since the start
        self._stopped_ns: int | None = None

    def start(self, now_ns: int) -> None:
        """Let the first one come after one gap."""
        self._started_ns = now_ns
        self._draw()

    def next_ns(self) -> int | None:
        """Return when the next one is or was due."""
        due_ns = self._started_ns + round(self._at_s * 1e9)
        return due_ns if self._stopped_ns is None or due_ns <= self._stopped_ns else None

    def take(self) -> int:
        """Take the one that is due first."""
        due_ns = self._started_ns + round(self._at_s * 1e9)
        self._draw()
        return due_ns

    def finish(self, now_ns: int) -> None:
        """Do nothing: nobody waits for an answer."""

    def stop(self, now_ns: int) -> None:
        """Let none come that is due later."""
        self._stopped_ns = now_ns

    def _draw(self) -> None:
        gap_s = self._random.exponential(self._period_s) if self._is_poisson else self._period_s
        self._at_s += float(gap_s)


def make_load(level: Level, arrivals: Arrivals, seed: int) -> Load:
    """Return the load of a level."""
    if level.kind == "concurrency":
        return ClosedLoad(int(level.value))
    return OpenLoad(level.value, arrivals, seed)
