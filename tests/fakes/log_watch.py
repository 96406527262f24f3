"""Waits for log lines."""

from __future__ import annotations

import logging
import queue
import time


class LogWatch(logging.Handler):
    """Keeps what `logger` says; `wait_for` waits for a line that contains a text."""

    def __init__(self, logger: str = "edgert") -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, str]] = []
        self._arrived: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
        self._logger = logging.getLogger(logger)
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        self._arrived.put(record)

    def wait_for(self, text: str, timeout_s: float = 15.0) -> str:
        """Return the next line that contains `text`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                record = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(
                    f"{text!r} was not logged in {timeout_s} s; but: {self.lines[-20:]}"
                ) from None
            self.lines.append((record.levelname, record.getMessage()))
            if text in record.getMessage():
                return record.getMessage()

    def warnings(self) -> list[str]:
        """Return the warnings among the lines so far."""
        while not self._arrived.empty():
            record = self._arrived.get()
            self.lines.append((record.levelname, record.getMessage()))
        return [text for level, text in self.lines if level == "WARNING"]

    def __enter__(self) -> LogWatch:
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
