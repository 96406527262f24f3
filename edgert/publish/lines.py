"""Results as JSON lines, to standard output or a file."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from edgert.errors import ClosedError, ConfigError, SinkError
from edgert.frames.result import Result
from edgert.publish.options import LinesOptions, Resolve
from edgert.publish.payload import ResultEncoder
from edgert.publish.queued import CountingEncoder, DeliveryThread, SinkCounts, SinkQueue
from edgert.publish.sink import SinkStats
from edgert.stats import LiveCount

LOOK_UP_S = 0.1  # how often a write to a slow reader looks whether to give up


class LinesSink:
    """A Sink that writes one line a result; all that waits goes out in one write."""

    announcer = None

    def __init__(
        self, name: str, options: LinesOptions, encoder: ResultEncoder, resolve: Resolve = Path
    ) -> None:
        self.name = name
        self._path = resolve(options.path) if options.path is not None else None
        self._counts = SinkCounts()
        self._queue: SinkQueue[Result] = SinkQueue(options.queue, self._counts)
        encode = CountingEncoder(name, encoder, self._counts).encode
        self._thread = DeliveryThread(name, self._queue, self._counts, encode, self._write)
        self._output: LineOutput | None = None

    def open(self) -> None:
        """Open the file, or a descriptor of standard output. Raises ConfigError."""
        self._output = LineOutput(self._path, self._thread.gave_up.is_set)
        self._thread.start()

    def send(self, result: Result) -> None:
        """Queue one result. Any thread; returns at once and never raises."""
        self._queue.put(result)

    def close(self, timeout_s: float) -> None:
        """Write what is queued, at most for `timeout_s`, then close the file."""
        self._thread.stop(timeout_s)
        output, self._output = self._output, None
        if output is not None:
            output.close()

    def statistics(self) -> SinkStats:
        """Return what the sink did."""
        return self._queue.statistics(is_connected=self._output is not None and not self._output.is_broken)

    def _write(self, lines: list[bytes]) -> None:
        if self._output is None:
            raise ClosedError("The sink is not open.")
        self._output.write(b"\n".join([*lines, b""]))


class LineOutput:
    """A descriptor that takes whole lines. One thread writes; no write blocks past `gives_up`."""

    live: ClassVar[LiveCount] = LiveCount("lines file")

    def __init__(self, path: Path | None, gives_up: Callable[[], bool]) -> None:
        self._name = str(path) if path is not None else "standard output"
        self._gives_up = gives_up
        self._fd = _open(path)
        self._is_file = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._is_torn = False
        self.is_broken = False
        self.live.opened()

    def write(self, lines: bytes) -> None:
        """Write all of `lines`.

        Raises:
            SinkError: the reader is gone for good, or the disk refused.
            ClosedError: the reader is slow, and it is time to give up.
        """
        if self.is_broken:
            raise self._error(errno.EPIPE)
        rest = memoryview(b"\n" + lines if self._is_torn else lines)
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
                self._is_torn = bool(rest)
        except OSError as error:
            self.is_broken = error.errno == errno.EPIPE
            raise self._error(error.errno) from error

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)
        self.live.closed()

    def _error(self, number: int | None) -> SinkError:
        return SinkError(f"{self._name} cannot be written: {os.strerror(number or 0)}")

    def _write_some(self, rest: memoryview) -> int:
        if self._is_file:
            return os.write(self._fd, rest)
        while not self._poll.poll(LOOK_UP_S * 1000):
            if self._gives_up():
                raise ClosedError(f"{self._name} was not read in time.")
        # A pipe that is ready takes this much without blocking. O_NONBLOCK would do it too, but standard
        # output shares that flag with the shell and whoever else has it open.
        return os.write(self._fd, rest[: select.PIPE_BUF])


def _open(path: Path | None) -> int:
    try:
        if path is None:
            sys.stdout.flush()
            return os.dup(1)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        name = "standard output" if path is None else f"path {path}"
        raise ConfigError(f"{name} cannot be opened for writing: {os.strerror(error.errno or 0)}") from error
