"""Ctrl-C ends a command with what it has so far; a second one ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from edgert.publish.waker import Waker


class Interrupt:
    """While entered, SIGINT and SIGTERM ask for the end, and wake who waits for it. The main thread only."""

    def __init__(self) -> None:
        self._waker = Waker()
        self._previous: dict[signal.Signals, Any] = {}
        self._is_asked = False

    def is_asked(self) -> bool:
        """Say whether somebody has asked for the end."""
        return self._is_asked

    def fileno(self) -> int:
        """Return the descriptor that becomes readable then."""
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
        if self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True
        self._waker.wake()
