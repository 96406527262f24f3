"""Ctrl-C ends listening with a summary; a second one ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from edgert.publish.waker import Waker


class Interrupt:
    """While entered, SIGINT and SIGTERM ask for the end and wake who waits for it. The main thread only."""

    def __init__(self) -> None:
        self._waker = Waker()
        self._previous: dict[signal.Signals, Any] = {}
        self.is_asked = False

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._waker.fileno()

    def __enter__(self) -> Interrupt:
        self._waker.open()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._waker.close()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.is_asked:
            raise KeyboardInterrupt
        self.is_asked = True
        self._waker.wake()
