"""When a connection to a broker has to be over."""

from __future__ import annotations

import threading
from collections.abc import Callable

GOODBYE_SHARE = 0.2  # of the closing time is kept for the farewell,
GOODBYE_MAX_S = 1.0  # but not more than this


class Closing:
    """Two deadlines: for the results, and for all. One thread begins; the connection's looks."""

    def __init__(self, mono_ns: Callable[[], int]) -> None:
        self._mono_ns = mono_ns
        self._begun = threading.Event()
        self._results_deadline_ns = 0  # both are valid once begun
        self._deadline_ns = 0

    def begin(self, timeout_s: float) -> None:
        """Set the deadlines, and end every `wait`."""
        self._deadline_ns = self._mono_ns() + int(timeout_s * 1e9)
        goodbye_s = min(GOODBYE_MAX_S, timeout_s * GOODBYE_SHARE)
        self._results_deadline_ns = self._deadline_ns - int(goodbye_s * 1e9)
        self._begun.set()

    @property
    def is_begun(self) -> bool:
        """`begin` was called."""
        return self._begun.is_set()

    def wait(self, timeout_s: float) -> None:
        """Return after this time, or at once when closing begins."""
        self._begun.wait(timeout_s)

    def is_late(self) -> bool:
        """Say whether the time for everything is up."""
        return self.is_begun and self._mono_ns() >= self._deadline_ns

    def is_late_for_results(self) -> bool:
        """Say whether the rest of the time is the farewell's."""
        return self.is_begun and self._mono_ns() >= self._results_deadline_ns

    def limited_ns(self, deadline_ns: int) -> int:
        """Return the deadline, or the closing's if that is earlier."""
        return min(deadline_ns, self._deadline_ns) if self.is_begun else deadline_ns

    def patience_s(self, longest_s: float, *, for_results: bool) -> float:
        """Return how long a wait may be, so that the next deadline is not missed."""
        if not self.is_begun:
            return longest_s
        next_ns = self._results_deadline_ns if for_results else self._deadline_ns
        return min(longest_s, max(0.0, (next_ns - self._mono_ns()) / 1e9))

    def extended_ns(self, least_s: float) -> int:
        """Return the deadline for everything, but not less than this from now."""
        return max(self._deadline_ns, self._mono_ns() + int(least_s * 1e9))
