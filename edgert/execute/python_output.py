"""What models print goes to the log: standard output belongs to results."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

log = logging.getLogger(__name__)


class LogWriter(io.TextIOBase):
    """A text file whose lines become lines of the log. Each thread has its own unfinished line."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._rest = threading.local()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log every line that is whole."""
        *lines, rest = (getattr(self._rest, "text", "") + text).split("\n")
        self._rest.text = rest
        for line in lines:
            log.info("model %s: %s", self._model, line)
        return len(text)

    def flush(self) -> None:
        """Log what is left of this thread's line."""
        if getattr(self._rest, "text", ""):
            self.write("\n")


class _Split:
    """Stands in for sys.stdout: threads of models write to the log, all others where they did."""

    def __init__(self, real: TextIO) -> None:
        self.real = real
        self.users = 0

    def write(self, text: str) -> int:
        return self._file().write(text)

    def flush(self) -> None:
        self._file().flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def _file(self) -> TextIO:
        return getattr(_here, "writer", self.real)


_here = threading.local()
_splitting = threading.Lock()


@contextmanager
def printing_to(writer: LogWriter) -> Iterator[None]:
    """Send what this thread writes to sys.stdout to the log, by whichever library."""
    split = _enter()
    _here.writer = writer
    try:
        yield
    finally:
        del _here.writer
        writer.flush()
        _leave(split)


def _enter() -> _Split:
    with _splitting:
        if not isinstance(sys.stdout, _Split):
            sys.stdout = cast("TextIO", _Split(sys.stdout))
        split = cast("_Split", sys.stdout)
        split.users += 1
        return split


def _leave(split: _Split) -> None:
    """Give sys.stdout back after the last one, unless somebody else has taken it meanwhile."""
    with _splitting:
        split.users -= 1
        if not split.users and cast("object", sys.stdout) is split:
            sys.stdout = split.real
