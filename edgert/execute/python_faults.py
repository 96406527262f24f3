"""Which faults of a model's own code get into the log, and how often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SAY_EVERY_S = 60.0
MOST_KINDS = 256  # a model that fails at more places than that is told of all anew


class FaultLog:
    """Warns of the first fault of a kind, then at most once a minute with a count. Any thread may ask."""

    def __init__(self, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._mono_s = mono_s
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[int, float]] = {}  # faults that were not told, and when the next is

    def note(self, kind: str, text: str) -> None:
        """Count a fault, and log its text if that is due."""
        now_s = self._mono_s()
        with self._lock:
            untold, due_s = self._kinds.pop(kind, (0, now_s))
            is_due = now_s >= due_s
            if len(self._kinds) >= MOST_KINDS:
                self._kinds.clear()
            self._kinds[kind] = (0, now_s + SAY_EVERY_S) if is_due else (untold + 1, due_s)
        if is_due:
            log.warning("%s%s", text, f" (and {untold} more like it before)" if untold else "")
