"""Says a lasting fault once."""

from __future__ import annotations

import logging


class Complaint:
    """Logs a fault at WARNING when it begins or changes, at DEBUG while it lasts. One thread."""

    def __init__(self, logger: logging.Logger, subject: str) -> None:
        self._log = logger
        self._subject = subject
        self._last: str | None = None

    def raised(self, fault: str) -> None:
        """Say that the fault is there."""
        level = logging.DEBUG if fault == self._last else logging.WARNING
        self._last = fault
        self._log.log(level, "%s: %s", self._subject, fault)

    def over(self, news: str) -> None:
        """Say that things are well, at INFO if there was a fault."""
        if self._last is not None:
            self._log.info("%s: %s", self._subject, news)
        self.forget()

    def forget(self) -> None:
        """Say nothing, and take the next fault for a new one."""
        self._last = None
