"""Ctrl-C ends a measurement with what was measured so far; a second one ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While entered, SIGINT and SIGTERM ask for the end. The main thread only."""

    def __init__(self) -> None:
        self._is_asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def is_asked(self) -> bool:
        """Say whether somebody has asked for the end."""
        return self._is_asked

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._is_asked:
            raise KeyboardInterrupt
        self._is_asked = True
