"""A bounded hand-off between two threads that never drops in silence."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from edgert.errors import ClosedError

T = TypeVar("T")


class ChannelStatistics(msgspec.Struct, frozen=True):
    """`peak_used` is the number to size the channel by."""

    used: int
    peak_used: int
    capacity: int
    dropped: int


class Channel(Generic[T]):
    """Many threads put, one takes. When full, the oldest goes to `on_drop` and is counted.

    Closing means: nothing more comes in; what is inside can still be taken.
    """

    def __init__(self, capacity: int, on_drop: Callable[[T], None] = lambda _: None) -> None:
        if capacity < 1:
            raise ValueError(f"A channel needs room for one item at least, not {capacity}.")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._on_drop = on_drop
        self._is_closed = False
        self._peak_used = 0
        self._dropped = 0

    def put(self, item: T) -> None:
        """Add without waiting. Raises ClosedError."""
        dropped: list[T] = []
        with self._changed:
            if self._is_closed:
                raise ClosedError("The channel was closed.")
            if len(self._items) >= self._capacity:
                dropped.append(self._items.popleft())
                self._dropped += 1
            self._items.append(item)
            self._peak_used = max(self._peak_used, len(self._items))
            self._changed.notify()
        for old in dropped:
            self._on_drop(old)

    def take_all(self, timeout_s: float | None = None) -> list[T]:
        """Wait for items and take all; empty when time runs out, or closed and drained."""
        with self._changed:
            if not self._items and not self._is_closed:
                self._changed.wait(timeout_s)
            items = list(self._items)
            self._items.clear()
            return items

    def take_nowait(self) -> T | None:
        """Take the oldest without waiting; None if there is none."""
        with self._changed:
            return self._items.popleft() if self._items else None

    def put_back(self, items: list[T]) -> None:
        """Return taken items to the front, in order; what does not fit is dropped, oldest first."""
        with self._changed:
            room = max(0, self._capacity - len(self._items))
            kept = items[max(0, len(items) - room) :] if room else []
            dropped = items[: len(items) - len(kept)]
            self._items.extendleft(reversed(kept))
            self._dropped += len(dropped)
        for item in dropped:
            self._on_drop(item)

    def close(self) -> None:
        """Refuse further items and wake the taker."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_finished(self) -> bool:
        """Closed, and nothing left to take."""
        with self._changed:
            return self._is_closed and not self._items

    def statistics(self) -> ChannelStatistics:
        """Return how full the channel is and was."""
        with self._changed:
            return ChannelStatistics(len(self._items), self._peak_used, self._capacity, self._dropped)
