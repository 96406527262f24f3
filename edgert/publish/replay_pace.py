"""When stored results are sent, so that live ones are not late."""

from __future__ import annotations

import time
from collections.abc import Callable

CATCH_UP_S = 0.02  # what a late wake-up may make up for at once; the rest only comes later


class ReplayPace:
    """Spreads stored results evenly: one is due every so often, whether or not live ones come between."""

    def __init__(self, per_s: float, mono_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """`per_s` results a second."""
        self._interval_ns = int(1e9 / per_s)
        self._mono_ns = mono_ns
        self._due_ns = 0

    def due_s(self) -> float:
        """Return the seconds until the next is due; 0 if it is."""
        return max(0, self._due_ns - self._mono_ns()) / 1e9

    def begun(self) -> None:
        """One is sent now."""
        earliest_ns = self._mono_ns() - int(CATCH_UP_S * 1e9)
        self._due_ns = max(self._due_ns, earliest_ns) + self._interval_ns
