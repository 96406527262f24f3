"""Does one thing after the other, on a thread of its own, and lets only so many wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from edgert.errors import BusyError, ClosedError
from edgert.stats import LiveCount

T = TypeVar("T")


class Worker(Generic[T]):
    """Calls `work` with each item, in order."""

    live: ClassVar[LiveCount] = LiveCount("control thread")

    def __init__(self, work: Callable[[T], None], capacity: int) -> None:
        self._work = work
        self._capacity = capacity
        self._waiting: deque[T] = deque()
        self._current: T | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self.live.opened()
        self._thread.start()

    def put(self, item: T) -> None:
        """Let an item wait for its turn. Any thread; returns at once.

        Raises:
            BusyError: enough items wait.
            ClosedError: the worker was closed.
        """
        with self._changed:
            if self._is_closed:
                raise ClosedError("The worker is closed.")
            if len(self._waiting) >= self._capacity:
                raise BusyError(f"{self._capacity} wait already.")
            self._waiting.append(item)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> list[T]:
        """Begin nothing more; return what was not begun, after what does not end within `timeout_s`.

        Work that does not end goes on, and its thread ends by itself. Allowed at any time, also again.
        """
        with self._changed:
            self._is_closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._current is None, timeout_s)
            current = self._current
        thread, self._thread = self._thread, None
        if current is not None:
            return [current, *left]
        if thread is not None:
            thread.join()
        return left

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._work(item)
                with self._changed:
                    self._current = None
                    self._changed.notify_all()
        finally:
            self.live.closed()

    def _next(self) -> T | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            self._current = self._waiting.popleft() if self._waiting else None
            return self._current
