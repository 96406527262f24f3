"""How often something may happen."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST = 10  # commands that may come at once


class Allowance:
    """So many in a minute, some of them at once. Used by one thread."""

    def __init__(
        self, per_minute: int, burst: int = BURST, mono_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._cost_ns = 60_000_000_000 // per_minute
        self._most_ns = self._cost_ns * min(burst, per_minute)
        self._mono_ns = mono_ns
        self._saved_ns = self._most_ns
        self._looked_ns = mono_ns()

    def take(self) -> bool:
        """Count one; False, and nothing counted, if there were too many of late."""
        now_ns = self._mono_ns()
        self._saved_ns = min(self._most_ns, self._saved_ns + now_ns - self._looked_ns)
        self._looked_ns = now_ns
        if self._saved_ns < self._cost_ns:
            return False
        self._saved_ns -= self._cost_ns
        return True
