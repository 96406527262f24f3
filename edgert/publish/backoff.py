"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Doubling waits with a cap, each shortened at random by up to a half, so that nodes spread out."""

    def __init__(self, min_s: float, max_s: float, draw: Callable[[], float] = random.random) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._draw = draw
        self._next_s = min_s

    def next_s(self) -> float:
        """Return the seconds to wait now."""
        wait_s, self._next_s = self._next_s, min(self._next_s * 2, self._max_s)
        return wait_s * (1.0 - self._draw() / 2)

    def reset(self) -> None:
        """Begin again with the shortest wait: the last attempt succeeded."""
        self._next_s = self._min_s

    def exhaust(self) -> None:
        """Go to the longest wait: the other side said no, and hurry would not help."""
        self._next_s = self._max_s
