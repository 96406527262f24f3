"""Where a body of known length arrives: counted, and had, as it comes."""

from __future__ import annotations

import numpy as np

from edgert.serve.bodies import Bodies

ALIGNMENT = 64  # where in memory the first tensor of a body begins, but for small ones
_FIRST_BYTES = 1 << 16  # of memory; then sixteen times as much, then all of it
_LEAST_STEP, _MOST_STEP = 1 << 12, 1 << 22  # bytes that are counted at once


class BodyRoom:
    """A body may announce much and send little: at most twice what has come is counted, and a step."""

    def __init__(self, bodies: Bodies, size: int, *, before: int = 0) -> None:
        """The first tensor stands `before` bytes after the body's begin."""
        self.filled = 0
        self._bodies = bodies
        self._size = size
        self._before = before
        self._memory = memoryview(b"")
        self._have(min(size, _FIRST_BYTES))

    def __len__(self) -> int:
        return self._size

    @property
    def is_full(self) -> bool:
        """Whether nothing can come before it is widened."""
        return self.filled == self._count.size

    @property
    def open(self) -> memoryview:
        """What is counted and not filled."""
        return self._memory[self.filled : self._count.size]

    @property
    def whole(self) -> memoryview:
        """The body, once all of it has come."""
        return self._memory

    def widen(self, more: int) -> None:
        """Let `more` bytes come, or as many as are missing. Raises FullError."""
        needed = min(self._size, self.filled + max(more, min(self.filled, _MOST_STEP)))
        if needed > len(self._memory):
            self._have(min(self._size, 16 * len(self._memory)))
        if needed > self._count.size:
            self._count.add(needed - self._count.size)

    def add(self, data: memoryview) -> None:
        """Append what is not more than is missing. Raises FullError."""
        end = self.filled + len(data)
        if end > self._count.size:
            self.widen(max(len(data), _LEAST_STEP))
        self._memory[self.filled : end] = data
        self.filled = end

    def _have(self, capacity: int) -> None:
        """Have memory for so much, with what has come in it."""
        count = _Count(self._bodies)
        count.add(self.filled)
        room = self._bodies.blocks.room(capacity + ALIGNMENT, count.clear)
        address: int = np.frombuffer(room, np.uint8).__array_interface__["data"][0]
        start = -(address + self._before) % ALIGNMENT
        memory = room[start : start + capacity]
        if self.filled:
            memory[: self.filled] = self._memory[: self.filled]
        self._memory, self._count = memory, count


class _Count:
    """What is counted for one piece of memory, until nothing refers to that any more."""

    def __init__(self, bodies: Bodies) -> None:
        self.size = 0
        self._bodies = bodies

    def add(self, more: int) -> None:
        """Count more. Raises FullError."""
        self._bodies.take(more)
        self.size += more

    def clear(self) -> None:
        """Count no more."""
        self._bodies.free(self.size)
