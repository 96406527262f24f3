"""Buffers that know their owner, and the budget they are counted against."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from edgert.errors import ClosedError, OutOfDeviceMemoryError
from edgert.stats import LiveCount


class Buffer:
    """`array_u8` is the host's view of the bytes, (size,) uint8, valid until `free`."""

    __slots__ = ("_give_back", "array_u8", "size_bytes")
    live: ClassVar[LiveCount] = LiveCount("buffer")

    def __init__(self, array_u8: np.ndarray, give_back: Callable[[int], None]) -> None:
        self.array_u8 = array_u8
        self.size_bytes = array_u8.nbytes
        self._give_back: Callable[[int], None] | None = give_back
        self.live.opened()

    def free(self) -> None:
        """Give the bytes back to their owner. Views of them must not be used afterwards."""
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            raise ClosedError("This buffer was freed before.")
        give_back(self.size_bytes)
        self.live.closed()


class Budget:
    """Counts bytes in use against a limit; 0 means no limit."""

    def __init__(self, limit_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> None:
        """Reserve bytes. Raises OutOfDeviceMemoryError, naming what was asked and what is in use."""
        with self._lock:
            used = self.used_bytes + size_bytes
            if self.limit_bytes and used > self.limit_bytes:
                raise OutOfDeviceMemoryError(
                    f"Asked for {size_bytes} bytes with {self.used_bytes} of {self.limit_bytes} in use. "
                    "Raise the memory budget, or load fewer models, lanes or sources."
                )
            self.used_bytes = used
            self.peak_bytes = max(self.peak_bytes, used)

    def give_back(self, size_bytes: int) -> None:
        """Return bytes that were taken."""
        with self._lock:
            self.used_bytes -= size_bytes
