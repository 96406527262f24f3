"""Time as an argument, and the rate at which a recording is played."""

from __future__ import annotations

import threading
import time


class Clock:
    """The machine's clocks. A test passes one that it moves itself."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never go back."""
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        """Return nanoseconds since 1970."""
        return time.time_ns()

    def sleep(self, duration_s: float) -> None:
        """Return after `duration_s`."""
        time.sleep(duration_s)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Return when `event` is set (True) or the time is up (False)."""
        return event.wait(timeout_s)


_AT_ONCE = -1


class Pacer:
    """Lets frames out at a fixed rate; 0 means without waiting.

    A frame that is late does not shift those after it, unless it is later than `MAX_LAG_NS`:
    then the schedule begins anew, so that nothing is played in a burst after a long wait.
    """

    MAX_LAG_NS = 1_000_000_000

    def __init__(self, frames_per_s: float, clock: Clock) -> None:
        self._period_ns = round(1e9 / frames_per_s) if frames_per_s else 0
        self._clock = clock
        self._due_ns = _AT_ONCE

    def start(self) -> None:
        """The first frame is due when it is first asked for, which may be long after a source was opened."""
        self._due_ns = _AT_ONCE

    def is_due(self, timeout_s: float) -> bool:
        """Wait for the next frame's time, at most `timeout_s`; False if it has not come by then."""
        if not self._period_ns:
            return True
        now_ns = self._clock.monotonic_ns()
        self._due_ns = now_ns if self._due_ns == _AT_ONCE else self._due_ns
        left_s = (self._due_ns - now_ns) / 1e9
        if left_s > 0:
            self._clock.sleep(min(left_s, timeout_s))
        if left_s > timeout_s:
            return False
        self._due_ns = max(self._due_ns, now_ns - self.MAX_LAG_NS) + self._period_ns
        return True
