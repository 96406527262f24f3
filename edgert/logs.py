"""One log line an event, for people or, if asked, for machines; under systemd with its priority."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from textwrap import indent
from types import TracebackType
from typing import Literal, TextIO

# What would end a line, or tell a terminal something: escaped, so that a frame's sender writes no lines here.
_CONTROLS = (*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_ESCAPES = {code: chr(code).encode("unicode_escape").decode() for code in _CONTROLS}
_IN_TEXT_OF_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) != "\n"}

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

_Failure = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "utc": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("edgert."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event)


class _TextFormatter(logging.Formatter):
    """A line begins at its first column; what belongs to the line before, as a traceback, is indented."""

    def __init__(self, *, has_clock: bool) -> None:
        super().__init__()
        self._has_clock = has_clock

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        clock = time.strftime("%H:%M:%S ", time.localtime(record.created)) if self._has_clock else ""
        part = record.name.removeprefix("edgert.").partition(".")[0]
        return f"{clock}{record.levelname.lower():7} {part}: {record.message.translate(_ESCAPES)}"

    def formatException(self, ei: _Failure) -> str:  # noqa: N802 - the base class's name
        return indent(super().formatException(ei).translate(_IN_TEXT_OF_LINES), "    ", lambda _: True)


class _JournalFormatter(logging.Formatter):
    """Puts the priority before each line, as sd-daemon(3) has it; the journal takes it off again."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(f"{priority}{line}" for line in self._inner.format(record).split("\n"))


def set_up_logging(
    form: Literal["text", "json"], level: str, environment: Mapping[str, str] = os.environ
) -> None:
    """Send log lines to standard error; standard output belongs to results.

    Where that is the journal, lines have a priority for it and, as text, no clock: it keeps the time itself.
    """
    is_journal = _is_journal(sys.stderr, environment.get("JOURNAL_STREAM", ""))
    formatter = _JsonFormatter() if form == "json" else _TextFormatter(has_clock=not is_journal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter(formatter) if is_journal else formatter)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _is_journal(stream: TextIO, named: str) -> bool:
    """Say whether the stream is the one that systemd names: device and inode, see systemd.exec(5)."""
    with suppress(io.UnsupportedOperation):
        status = os.fstat(stream.fileno())
        return named == f"{status.st_dev}:{status.st_ino}"
    return False
