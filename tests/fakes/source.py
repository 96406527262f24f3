"""A source that follows a script, and a clock that only the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgert.capture.pace import Clock
from edgert.capture.source import Captured
from edgert.errors import ClosedError, EdgertError, EndOfSourceError
from edgert.frames.frame import Reply
from edgert.frames.result import Result
from edgert.frames.slots import Slot


class ScriptClock(Clock):
    """Time passes when somebody sleeps or waits; `pauses_s` tells for how long each time."""

    def __init__(self, now_ns: int = 10**12) -> None:
        self.now_ns = now_ns
        self.pauses_s: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None

    def monotonic_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns + 10**18

    def sleep(self, duration_s: float) -> None:
        self.pauses_s.append(duration_s)
        self.now_ns += round(duration_s * 1e9)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.sleep(timeout_s)
        self.on_wait()
        return event.is_set()


class FakeReply:
    """Remembers what was answered."""

    def __init__(self) -> None:
        self.answered: list[Result] = []
        self.refused: list[EdgertError] = []

    def answer(self, result: Result) -> None:
        self.answered.append(result)

    def refuse(self, error: EdgertError) -> None:
        self.refused.append(error)


class FakeSource:
    """Does what its script says, one step a read, then ends.

    A step is a picture to deliver, None for silence (the whole timeout passes), an exception to
    raise, or a function whose return value is the step. `openings` are exceptions that `open` raises
    in turn, None where it succeeds; after them it always succeeds.
    """

    def __init__(
        self,
        script: Sequence[Any],
        clock: ScriptClock | None = None,
        *,
        openings: Sequence[Exception | None] = (),
        reply: Reply | None = None,
    ) -> None:
        self.clock = clock or ScriptClock()
        self.calls: list[str] = []
        self.is_open = False
        self.counts: dict[str, int] = {}
        self.helper_ns = 0
        self._script = list(script)
        self._steps = iter(self._script)
        self._openings = list(openings)
        self._reply = reply

    def open(self) -> None:
        self.calls.append("open")
        error = self._openings.pop(0) if self._openings else None
        if error is not None:
            raise error
        self.is_open = True

    def read(self, slot: Slot | None, timeout_s: float) -> Captured | None:
        if not self.is_open:
            raise ClosedError("The fake is not open.")
        step = next(self._steps, EndOfSourceError("The script has ended."))
        step = step() if callable(step) else step
        if isinstance(step, Exception):
            raise step
        if step is None:
            self.clock.sleep(timeout_s)
            return None
        if slot is not None:
            np.copyto(slot.fit(step.shape), step)
        height, width, _ = step.shape
        return Captured(
            "bgr8", height, width, self.clock.monotonic_ns(), self.clock.utc_ns(), None, self._reply
        )

    def tend(self, timeout_s: float) -> None:
        self.calls.append("tend")
        self.clock.sleep(timeout_s)

    def close(self) -> None:
        self.calls.append("close")
        self.is_open = False

    def take_counts(self) -> dict[str, int]:
        counts, self.counts = self.counts, {}
        return counts

    def helper_cpu_ns(self) -> int:
        return self.helper_ns
