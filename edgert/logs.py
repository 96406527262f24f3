"""One log line an event, for people or, if asked, for machines."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal


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
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        part = record.name.removeprefix("edgert.").partition(".")[0]
        return f"{clock} {record.levelname.lower():7} {part}: {record.message}"


def set_up_logging(form: Literal["text", "json"], level: str) -> None:
    """Send log lines to standard error; standard output belongs to results."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
