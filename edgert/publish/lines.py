"""Results as JSON lines, to standard output or a file."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from edgert.errors import ClosedError, ConfigError, SinkError
from edgert.frames.result import Result
from edgert.publish.encoder import Encoder
from edgert.publish.options import LinesOptions, Resolve
from edgert.publish.queued import CountingEncoder, DeliveryThread, SinkCounts, SinkQueue
from edgert.publish.sink import SinkPulse, SinkStats
from edgert.stats import LiveCount

LOOK_UP_S = 0.1  # how often a write to a slow reader looks whether to give up
LOOK_AFTER_NS = 1_000_000_000  # how often a write looks whether the path still leads to its file


def check_path(place: str, resolve: Resolve) -> None:
    """See that a file can be written, or made, without opening it. Raises ConfigError."""
    path = resolve(place)
    folder = path.parent
    if not os.access(folder, os.X_OK) or not folder.is_dir():
        raise ConfigError(f"path {path}: there is no folder {folder} that this user may enter")
    if path.is_dir():
        raise ConfigError(f"path {path} is a folder; expected a file")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        raise ConfigError(f"path {path}: this user may not write {target}")


class LinesSink:
    """A Sink that writes one line a result; all that waits goes out in one write."""

    announcer = None

    def __init__(self, name: str, options: LinesOptions, encoder: Encoder, resolve: Resolve = Path) -> None:
        self.name = name
        self._path = resolve(options.path) if options.path is not None else None
        self._counts = SinkCounts()
        self._queue: SinkQueue[Result] = SinkQueue(options.queue, self._counts)
        encode = CountingEncoder(name, encoder, self._counts).encode
        self._thread = DeliveryThread(name, self._queue, self._counts, encode, self._write)
        self._output: LineOutput | None = None

    def open(self) -> None:
        """Open the file, or a descriptor of standard output. Raises ConfigError."""
        try:
            self._output = LineOutput(self._path, self._thread.gave_up.is_set)
        except ConfigError as error:
            raise ConfigError(f"Sink {self.name}: {error}") from error
        self._thread.start(at_end=self._output.close)

    def send(self, result: Result) -> None:
        """Queue one result. Any thread; returns at once and never raises."""
        self._queue.put(result)

    def close(self, timeout_s: float) -> None:
        """Write what is queued, at most for `timeout_s`, then close the file.

        A write that does not return keeps the file; its thread closes it afterwards.
        """
        self._thread.stop(timeout_s)
        self._output = None

    def statistics(self) -> SinkStats:
        """Return what the sink did."""
        output = self._output
        return self._queue.statistics(is_connected=output is not None and not output.is_broken)

    def pulses(self) -> Sequence[SinkPulse]:
        """Return how far its thread has come; to wait for a slow reader is a step too."""
        output = self._output
        return [self._thread.pulse(output.waits if output is not None else 0)]

    def _write(self, lines: list[bytes]) -> None:
        output = self._output
        if output is None:
            raise ClosedError("The sink is not open.")
        output.write(b"\n".join([*lines, b""]))


class LineOutput:
    """A descriptor that takes whole lines. One thread writes; no write blocks past `gives_up`.

    A file that was renamed or deleted, as logrotate does, is left and its path opened anew.
    """

    live: ClassVar[LiveCount] = LiveCount("lines file")

    def __init__(
        self,
        path: Path | None,
        gives_up: Callable[[], bool],
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = path
        self._name = str(path) if path is not None else "standard output"
        self._gives_up = gives_up
        self._mono_ns = mono_ns
        self._is_torn = False
        self.waits = 0  # for a reader that was slow
        self._attach(_open(path))
        self._look_ns = mono_ns() + LOOK_AFTER_NS
        self.is_broken = False
        self.live.opened()

    def write(self, lines: bytes) -> None:
        """Write all of `lines`.

        Raises:
            SinkError: the reader is gone for good, the disk refused, or a moved file cannot be opened anew.
            ClosedError: the reader is slow, and it is time to give up.
        """
        if self.is_broken:
            raise self._error(errno.EPIPE)
        self._follow_path()
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

    def _attach(self, fd: int) -> None:
        self._fd = fd
        status = os.fstat(fd)
        self._identity = status.st_dev, status.st_ino
        self._is_file = stat.S_ISREG(status.st_mode)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def _follow_path(self) -> None:
        """Once in a while, see that the path still leads to the open file; after a failure, at once again."""
        now_ns = self._mono_ns()
        if self._path is None or not self._is_file or now_ns < self._look_ns:
            return
        if _identity(self._path) != self._identity:
            self._reopen(self._path)
        self._look_ns = now_ns + LOOK_AFTER_NS

    def _reopen(self, path: Path) -> None:
        try:
            fd = _open(path)
        except ConfigError as error:
            raise SinkError(str(error)) from error
        os.close(self._fd)
        self._attach(fd)
        self._is_torn = False

    def _error(self, number: int | None) -> SinkError:
        return SinkError(f"{self._name} cannot be written: {os.strerror(number or 0)}")

    def _write_some(self, rest: memoryview) -> int:
        if self._is_file:
            return os.write(self._fd, rest)
        while not self._poll.poll(LOOK_UP_S * 1000):
            if self._gives_up():
                raise ClosedError(f"{self._name} was not read in time.")
            self.waits += 1
        # A pipe that is ready takes this much without blocking. O_NONBLOCK would do it too, but standard
        # output shares that flag with the shell and whoever else has it open.
        return os.write(self._fd, rest[: select.PIPE_BUF])


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file a path leads to; None if it cannot be said."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open(path: Path | None) -> int:
    try:
        if path is None:
            sys.stdout.flush()
            return os.dup(1)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        name = "standard output" if path is None else f"path {path}"
        raise ConfigError(f"{name} cannot be opened for writing: {os.strerror(error.errno or 0)}") from error
