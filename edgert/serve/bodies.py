"""How much memory requests take that are not answered yet, over all fronts."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np

from edgert.errors import RequestError, UnavailableError
from edgert.frames.result import Array
from edgert.serve.options import READ_COST, LimitOptions

_BLOCK_BYTES = 1 << 16  # blocks are multiples of
_KEPT_BYTES = 4 << 20
_WORTH_COUNTING = 1 << 12  # bytes of JSON; how much less than that comes, the number of requests bounds


class FullError(UnavailableError):
    """The bodies of requests take all the memory that they may."""


class TooLargeError(RequestError):
    """A request is over a limit of its own."""


class Blocks:
    """Keeps some memory that was used, for who needs as much: new memory costs a page fault every 4 KiB.

    Any thread may call, also the collector in the midst of anything.
    """

    def __init__(self) -> None:
        self._kept: dict[int, deque[Array]] = {}  # by size

    def room(self, size: int, on_left: Callable[[], None] = lambda: None) -> memoryview:
        """Return memory. Once nothing refers to it any more `on_left` is called and it is used again.

        Raises FullError, after `on_left`: this machine has no more.
        """
        try:
            block = self._take(max(1, -(-size // _BLOCK_BYTES)) * _BLOCK_BYTES)
        except MemoryError:
            on_left()
            raise FullError(f"there are no {size} bytes of memory left. Try again later") from None
        owner = np.frombuffer(block.data, np.uint8)  # arrays of it refer to this, past it they cannot see
        weakref.finalize(owner, self._leave, block, on_left)
        return owner.data[:size]

    def _take(self, size: int) -> Array:
        try:
            return self._kept[size].pop()
        except (KeyError, IndexError):
            return np.empty(size, np.uint8)

    def _leave(self, block: Array, on_left: Callable[[], None]) -> None:
        on_left()
        if block.size > _KEPT_BYTES:
            return
        kept_bytes = sum(size * len(blocks) for size, blocks in list(self._kept.items()))
        if kept_bytes + block.size > _KEPT_BYTES:
            self._kept.clear()
        self._kept.setdefault(block.size, deque()).append(block)


class Bodies:
    """Counts memory before it is had, and until nothing refers to it any more. Any thread may call."""

    def __init__(self, limits: LimitOptions | None = None) -> None:
        limits = limits or LimitOptions()
        self.limit_bytes = limits.bodies_mb << 20
        self.request_limit_bytes = limits.request_mb << 20
        self._json_limit_bytes = limits.json_mb << 20
        self._held_bytes = 0
        self._freed: deque[int] = deque()  # not yet counted: who frees may be the collector, in the midst
        self.blocks = Blocks()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """How much is counted now."""
        with self._lock:
            return self._settle()

    def take(self, size: int) -> None:
        """Count more. Raises FullError."""
        with self._lock:
            if self._settle() + size > self.limit_bytes:
                raise FullError(
                    f"requests under way hold {self._held_bytes} of {self.limit_bytes} bytes; this one needs "
                    f"{size}. Try again later"
                )
            self._held_bytes += size

    def free(self, size: int) -> None:
        """Count less."""
        self._freed.append(size)

    def room(self, size: int) -> memoryview:
        """Return memory to receive a body in. Raises FullError."""
        self.take(size)
        return self.blocks.room(size, partial(self.free, size))

    def take_json(self, size: int, owner: object) -> None:
        """Count what JSON, typed contents or texts of that size take as objects, as long as `owner` lives.

        Raises:
            TooLargeError, FullError: they may not be read.
        """
        if size > self._json_limit_bytes:
            raise TooLargeError(
                f"JSON, typed contents and texts of a request may have {self._json_limit_bytes} bytes; "
                f"these have {size}"
            )
        if size <= _WORTH_COUNTING:
            return
        self.take(size * READ_COST)
        weakref.finalize(owner, self.free, size * READ_COST)

    def _settle(self) -> int:
        while self._freed:
            self._held_bytes -= self._freed.popleft()
        return self._held_bytes


class GrowingBody(bytearray):
    """A body whose size is not known before. It is counted as it grows."""

    def __init__(self, bodies: Bodies, limit_bytes: int) -> None:
        super().__init__()
        self._bodies = bodies
        self._limit_bytes = limit_bytes
        self._counted_bytes = 0

    def __del__(self) -> None:
        """Count no more."""
        self._bodies.free(self._counted_bytes)

    def add(self, piece: bytes | bytearray | memoryview) -> None:
        """Append. Raises TooLargeError, FullError."""
        if len(self) + len(piece) > self._limit_bytes:
            raise TooLargeError(
                f"a request may have {self._limit_bytes} bytes (serve.limits.request_mb); more came"
            )
        self._bodies.take(len(piece))
        self._counted_bytes += len(piece)
        self += piece
