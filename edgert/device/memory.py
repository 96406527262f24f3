"""Buffers that know their owner, and the budget they are counted against."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

import msgspec
import numpy as np

from edgert.errors import ClosedError, OutOfDeviceMemoryError
from edgert.stats import LiveCount

KEPT_EVENTS = 4096


class MemoryKind(str, Enum):
    """Where bytes lie, and who reaches them without a copy."""

    PAGEABLE = "pageable"  # the process's own memory; some devices read it through the same page tables
    PINNED = "pinned"  # the host's, fast to copy from and to
    MAPPED = "mapped"  # pinned, and the device reads and writes it in place
    REGISTERED = "registered"  # the process's own memory, pinned and mapped afterwards
    MANAGED = "managed"  # moves to whoever touches it, or is shared where memory is
    DEVICE = "device"  # the device's only; the host has no view


class Buffer:
    """Bytes of one kind, valid until `free`.

    `array_u8` is the host's view, (size,) uint8; None for `DEVICE`. `address` is where the device finds the
    bytes; 0 where it cannot.
    """

    __slots__ = ("_give_back", "address", "array_u8", "kind", "size_bytes")
    live: ClassVar[LiveCount] = LiveCount("buffer")

    def __init__(
        self,
        array_u8: np.ndarray | None,
        give_back: Callable[[int], None],
        *,
        size_bytes: int | None = None,
        address: int = 0,
        kind: MemoryKind = MemoryKind.PAGEABLE,
    ) -> None:
        self.array_u8 = array_u8
        self.size_bytes = array_u8.nbytes if size_bytes is None and array_u8 is not None else size_bytes or 0
        self.address = address
        self.kind = kind
        self._give_back: Callable[[int], None] | None = give_back
        self.live.opened()

    @property
    def view_u8(self) -> np.ndarray:
        """The host's view. Raises ClosedError where there is none."""
        if self.array_u8 is None:
            raise ClosedError(f"The host has no view of {self.kind.value} memory.")
        return self.array_u8

    def free(self) -> None:
        """Give the bytes back to their owner. Views of them must not be used afterwards."""
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            raise ClosedError("This buffer was freed before.")
        give_back(self.size_bytes)
        self.live.closed()


class AllocationEvent(msgspec.Struct, frozen=True, gc=False):
    """One allocation or, with negative bytes, one release."""

    mono_ns: int
    owner: str
    kind: str
    size_bytes: int


class Usage(msgspec.Struct):
    """What one owner holds and has held at most, in bytes."""

    used_bytes: int = 0
    peak_bytes: int = 0
    count: int = 0  # allocations that live


class Budget:
    """Counts bytes in use against a limit, in all and by owner; 0 means no limit. Any thread."""

    def __init__(self, limit_bytes: int = 0) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._kinds: Counter[str] = Counter()  # bytes in use by kind
        self._owners: dict[str, Usage] = {}
        self._owner_limits: dict[str, int] = {}
        self._events: deque[AllocationEvent] = deque(maxlen=KEPT_EVENTS)
        self._lock = threading.Lock()

    def limit_owner(self, owner: str, limit_bytes: int) -> None:
        """Bound what one owner may hold; 0 means no limit."""
        self._owner_limits[owner] = limit_bytes

    def take(self, size_bytes: int, owner: str = "", kind: str = "") -> None:
        """Reserve bytes. Raises OutOfDeviceMemoryError, naming what was asked and what is in use by whom."""
        with self._lock:
            usage = self._owners.setdefault(owner, Usage())
            self._demand_room(size_bytes, owner, usage)
            self.used_bytes += size_bytes
            self.peak_bytes = max(self.peak_bytes, self.used_bytes)
            usage.used_bytes += size_bytes
            usage.peak_bytes = max(usage.peak_bytes, usage.used_bytes)
            usage.count += 1
            self._kinds[kind] += size_bytes
            self._events.append(AllocationEvent(time.monotonic_ns(), owner, kind, size_bytes))

    def give_back(self, size_bytes: int, owner: str = "", kind: str = "") -> None:
        """Return bytes that were taken."""
        with self._lock:
            self.used_bytes -= size_bytes
            usage = self._owners[owner]
            usage.used_bytes -= size_bytes
            usage.count -= 1
            self._kinds[kind] -= size_bytes
            self._events.append(AllocationEvent(time.monotonic_ns(), owner, kind, -size_bytes))

    @property
    def pinned_bytes(self) -> int:
        """How much of the host's memory is pinned."""
        return self._kinds[MemoryKind.PINNED.value] + self._kinds[MemoryKind.MAPPED.value]

    def by_owner(self) -> dict[str, Usage]:
        """Return what each owner holds, also those that hold nothing any more."""
        with self._lock:
            return {name: msgspec.structs.replace(usage) for name, usage in self._owners.items()}

    def events(self) -> list[AllocationEvent]:
        """Return the newest allocations and releases, oldest first."""
        with self._lock:
            return list(self._events)

    def holders(self) -> str:
        """Return who holds how much, the largest first, for people."""
        with self._lock:
            return self._holders()

    def _demand_room(self, size_bytes: int, owner: str, usage: Usage) -> None:
        if self.limit_bytes and self.used_bytes + size_bytes > self.limit_bytes:
            raise OutOfDeviceMemoryError(
                f"Asked for {size_bytes} bytes with {self.used_bytes} of {self.limit_bytes} in use"
                f"{self._holders()}. Raise the memory budget, or load fewer models, lanes or sources."
            )
        limit = self._owner_limits.get(owner, 0)
        if limit and usage.used_bytes + size_bytes > limit:
            raise OutOfDeviceMemoryError(
                f"Asked for {size_bytes} bytes with {usage.used_bytes} of {limit} in use by {owner}. "
                "Raise its memory_mb in edgert.toml, or give it fewer lanes or a smaller batch."
            )

    def _holders(self) -> str:
        held = sorted(
            ((usage.used_bytes, name) for name, usage in self._owners.items() if name and usage.used_bytes),
            reverse=True,
        )
        return f" ({', '.join(f'{name} {size}' for size, name in held[:8])})" if held else ""
