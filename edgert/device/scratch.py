"""Memory for an engine's intermediate tensors, which lanes that never overlap can share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgert.device.driver import Driver, Event, Stream
from edgert.device.memory import Buffer, MemoryKind

ALIGNMENT = 256


class Lease:
    """One lane's hold on a scratch buffer."""

    __slots__ = ("buffer", "holders")

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.holders = 0


class Scratch:
    """The scratch buffer of one lane, or of a group of lanes. It only grows while somebody uses it.

    Runs of lanes that share it go one after the other: each waits for the mark of the last. When it
    grows, a lane moves to the new buffer when nothing of it runs; the old one is freed when all have moved.
    """

    def __init__(self, driver: Driver, owner: str, *, is_shared: bool) -> None:
        self._driver = driver
        self._owner = owner
        self._is_shared = is_shared
        self._current: Lease | None = None
        self._last_use: Event | None = None
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # of whoever enqueues a run
        self._users = 0

    def join(self, size_bytes: int) -> Lease:
        """Return a lease on a buffer of at least `size_bytes`. Raises OutOfDeviceMemoryError."""
        with self._lock:
            current = self._current
            if current is None or current.buffer.size_bytes < size_bytes:
                current = self._grow(max(size_bytes, ALIGNMENT))
            if self._is_shared and self._last_use is None:
                self._last_use = self._driver.open_event()
            self._users += 1
            current.holders += 1
            return current

    def is_current(self, lease: Lease) -> bool:
        """Say whether the lease is on the newest buffer. Cheap."""
        return lease is self._current

    def move(self, lease: Lease) -> Lease:
        """Return a lease on the newest buffer for an old one. Its lane's work must have finished."""
        with self._lock:
            self._let_go(lease)
            assert self._current is not None  # noqa: S101 - there is a buffer while anybody has a lease
            self._current.holders += 1
            return self._current

    def leave(self, lease: Lease) -> None:
        """End a lease; the last one frees everything."""
        with self._lock:
            self._let_go(lease)
            self._users -= 1
            if self._users:
                return
            current, self._current = self._current, None
            if current is not None:
                current.buffer.free()
            last_use, self._last_use = self._last_use, None
            if last_use is not None:
                last_use.close()

    @contextmanager
    def use(self, stream: Stream) -> Iterator[None]:
        """Enqueue a run on `stream` that uses the buffer, behind the last one of whichever lane and thread.

        A lane that is warmed while another of its group serves takes turns with it.
        """
        if not self._is_shared:
            yield
            return
        with self._turn:
            assert self._last_use is not None  # noqa: S101 - there is one while anybody has a lease
            stream.wait(self._last_use)
            try:
                yield
            finally:
                stream.record(self._last_use)

    def _grow(self, size_bytes: int) -> Lease:
        grown = Lease(self._driver.allocate(size_bytes, MemoryKind.DEVICE, self._owner))
        old, self._current = self._current, grown
        if old is not None and not old.holders:
            old.buffer.free()
        return grown

    def _let_go(self, lease: Lease) -> None:
        lease.holders -= 1
        if not lease.holders and lease is not self._current:
            lease.buffer.free()


class ScratchGroups:
    """The scratch buffers that are shared, by the name of their group."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._shared: dict[str, Scratch] = {}

    def of(self, group: str, owner: str) -> Scratch:
        """Return the group's scratch; without a group, one for `owner` alone."""
        if not group:
            return Scratch(self._driver, owner, is_shared=False)
        if group not in self._shared:
            self._shared[group] = Scratch(self._driver, f"scratch group {group}", is_shared=True)
        return self._shared[group]
