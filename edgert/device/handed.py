"""Tensors that stay on a device between two models, and the pool that their memory comes from."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import numpy as np

from edgert.device.memory import Buffer, MemoryKind
from edgert.device.opened import OpenDevice
from edgert.errors import ClosedError, OutOfDeviceMemoryError
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

OWNER = "tensors between steps"
SHARE = 32  # of the device's memory that a pool holds at most: 256 MiB of 8 GiB
LEAST_BYTES = 4096  # of a buffer, so that small tensors share sizes

Array = np.ndarray[Any, np.dtype[Any]]


class HandedPool:
    """A device's memory for tensors that models hand to each other, kept by size and bounded. Any thread.

    It never waits: where there is no room, the tensor goes through the host. So nobody who holds memory can
    keep others from ever giving theirs back.
    """

    def __init__(self, device: OpenDevice, limit_bytes: int = 0) -> None:
        """`limit_bytes` 0: a share of the device's memory."""
        self.device = device
        self.owner = device.owner_of(OWNER)
        self.held_bytes = 0  # in use or free
        self.refused = 0  # tensors for which there was no room
        self._limit_bytes = limit_bytes
        self._free: dict[int, list[Buffer]] = {}
        self._users = 0
        self._lock = threading.Lock()

    def join(self) -> None:
        """Keep memory from now on, until as many have left."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Keep memory no longer, once the last one has left; what is in use goes when it is released."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._trim(0)

    def take(self, size_bytes: int) -> Loan | None:
        """Return memory of at least that size, with one holder; None where there is no room."""
        wanted = max(1 << (size_bytes - 1).bit_length(), LEAST_BYTES)
        with self._lock:
            free = self._free.get(wanted)
            buffer = free.pop() if free else self._allocate(wanted)
            if buffer is not None:
                return Loan(self, buffer)
            self.refused += 1
            is_first = self.refused == 1
        if is_first:
            log.warning("%s: no room for %d bytes; such tensors go through the host", self.owner, size_bytes)
        return None

    def hold(self, loan: Loan) -> None:
        """Count one holder more."""
        with self._lock:
            loan.holders += 1

    def let_go(self, loan: Loan) -> None:
        """Count one holder less; after the last one the memory is for others."""
        with self._lock:
            loan.holders -= 1
            if loan.holders:
                return
            if self._users:
                self._free.setdefault(loan.buffer.size_bytes, []).append(loan.buffer)
            else:
                self._drop(loan.buffer)

    def _allocate(self, size_bytes: int) -> Buffer | None:
        self._limit_bytes = self._limit_bytes or self.device.driver.memory_info()[1] // SHARE
        unused_bytes = sum(size * len(own) for size, own in self._free.items())
        if self.held_bytes - unused_bytes + size_bytes > self._limit_bytes:
            return None  # whatever is freed
        self._trim(self._limit_bytes - size_bytes)
        try:
            buffer = self._allocated(size_bytes)
        except OutOfDeviceMemoryError as error:
            log.debug("%s: %s", self.owner, error)
            return None
        self.held_bytes += size_bytes
        return buffer

    def _allocated(self, size_bytes: int) -> Buffer:
        driver = self.device.driver
        try:
            return driver.allocate(size_bytes, MemoryKind.DEVICE, self.owner)
        except OutOfDeviceMemoryError:
            self._trim(0)
            return driver.allocate(size_bytes, MemoryKind.DEVICE, self.owner)

    def _trim(self, most_bytes: int) -> None:
        """Free what nobody uses until no more than `most_bytes` are held, or nothing is left to free."""
        while self.held_bytes > most_bytes and (size := next((s for s, own in self._free.items() if own), 0)):
            self._drop(self._free[size].pop())

    def _drop(self, buffer: Buffer) -> None:
        self.held_bytes -= buffer.size_bytes
        buffer.free()


class HandedPools:
    """The pool of each device, while ensembles are served. Any thread."""

    def __init__(self) -> None:
        self._pools: dict[int, HandedPool] = {}
        self._users = 0
        self._lock = threading.Lock()

    def of(self, device: OpenDevice) -> HandedPool:
        """Return a device's pool, which takes no memory before it is asked for some."""
        with self._lock:
            pool = self._pools.get(id(device))
            if pool is None:
                pool = self._pools[id(device)] = HandedPool(device)
                if self._users:
                    pool.join()
            return pool

    def join(self) -> None:
        """Hear that an ensemble is served."""
        with self._lock:
            self._users += 1
            for pool in self._pools.values() if self._users == 1 else ():
                pool.join()

    def leave(self) -> None:
        """Hear that one is served no longer; the last one frees what is not in use."""
        with self._lock:
            self._users -= 1
            for pool in self._pools.values() if not self._users else ():
                pool.leave()


class Loan:
    """A pool's memory while somebody holds it: a batch's output, of which each request has a part."""

    __slots__ = ("buffer", "holders", "pool")

    def __init__(self, pool: HandedPool, buffer: Buffer) -> None:
        self.pool = pool
        self.buffer = buffer
        self.holders = 1


class HandedTensor:
    """A contiguous tensor on a device, written wholly, until `release`.

    It has the shape and type of an array, so that it is checked and batched as one. NumPy gets a copy.
    """

    __slots__ = ("_loan", "_offset", "dtype", "shape")
    live: ClassVar[LiveCount] = LiveCount("handed tensor")

    def __init__(self, loan: Loan, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Hold the loan. `dtype` is the host's: BF16 is uint16."""
        self._loan: Loan | None = loan
        self._offset = offset
        self.shape = shape
        self.dtype = dtype
        loan.pool.hold(loan)
        self.live.opened()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def pool(self) -> HandedPool:
        """Where its memory comes from, which says on which device it is."""
        return self._lent.pool

    @property
    def address(self) -> int:
        """Where the device finds it."""
        return self._lent.buffer.address + self._offset

    def is_before(self, other: HandedTensor) -> bool:
        """Say whether the other one begins where this ends, in the same memory.

        No copy may reach from one allocation into another, even if that lies right behind.
        """
        return self._lent is other._lent and self._offset + self.nbytes == other._offset

    def to_array(self) -> Array:
        """Return a copy on the host. Waits for it: for who has lost its place on the device meanwhile."""
        device = self.pool.device
        driver = device.driver
        staged = driver.allocate(self.nbytes, MemoryKind.PINNED, self.pool.owner)
        try:
            with driver.current():
                stream = driver.open_stream()
                try:
                    stream.copy(staged.address, self.address, self.nbytes)
                    stream.synchronize()
                finally:
                    stream.close()
            device.copies.add("device_to_host", self.nbytes)
            array: Array = staged.view_u8.copy().view(self.dtype).reshape(self.shape)
            return array
        finally:
            staged.free()

    def tobytes(self) -> bytes:
        """Return its bytes, as `to_array` does."""
        return self.to_array().tobytes()

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        return self.to_array() if dtype is None else self.to_array().astype(dtype)

    def release(self) -> None:
        """Give the memory up: nothing reads it any more. Allowed again."""
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.pool.let_go(loan)
            self.live.closed()

    @property
    def _lent(self) -> Loan:
        if self._loan is None:
            raise ClosedError("This tensor was released.")
        return self._loan


def on_host(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return tensors, copies of those that are on a device."""
    if not any(isinstance(tensor, HandedTensor) for tensor in tensors.values()):
        return tensors
    return {
        name: tensor.to_array() if isinstance(tensor, HandedTensor) else tensor
        for name, tensor in tensors.items()
    }
