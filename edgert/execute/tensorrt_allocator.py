"""TensorRT's own allocations, made by edgert's driver, so that they are counted by owner and bounded."""

from __future__ import annotations

import logging
from typing import Any

from edgert.device.driver import Driver
from edgert.device.memory import Buffer, MemoryKind
from edgert.errors import DeviceError
from edgert.execute.tensorrt_bindings import Bindings

log = logging.getLogger(__name__)


class OwnedMemory:
    """What TensorRT holds for one engine. Called from any of its threads, with the interpreter's lock."""

    def __init__(self, driver: Driver, owner: str) -> None:
        self._driver = driver
        self._owner = owner
        self._buffers: dict[int, Buffer] = {}
        self.refusal: DeviceError | None = None  # why the last request got nothing

    @property
    def held_bytes(self) -> int:
        """What TensorRT holds now: the weights, once no context allocates for itself."""
        return sum(buffer.size_bytes for buffer in tuple(self._buffers.values()))

    def allocate(self, size_bytes: int) -> int:
        """Return an address, or 0 where there is no room: an exception would end up on stderr."""
        if not size_bytes:
            return 0
        try:
            buffer = self._driver.allocate(size_bytes, MemoryKind.DEVICE, self._owner)
        except DeviceError as error:
            self.refusal = error
            return 0
        self._buffers[buffer.address] = buffer
        return buffer.address

    def deallocate(self, address: int) -> bool:
        """Free what `allocate` returned; 0 is allowed."""
        if not address:
            return True
        buffer = self._buffers.pop(address, None)
        if buffer is None:
            log.error("TensorRT gives back memory at %#x that it did not get from edgert", address)
            return False
        buffer.free()
        return True


def make_allocator(bindings: Bindings, memory: OwnedMemory) -> Any:
    """Return an allocator for TensorRT, to be kept while its runtime lives.

    It is the asynchronous kind, which every release calls, and answers at once: memory is asked for when
    engines and contexts are made, not for frames. Of the arguments after the first, whose order depends on
    the release, it needs none.
    """
    base = bindings.module.IGpuAsyncAllocator

    class Allocator(base):  # type: ignore[misc, valid-type] # whichever module was loaded
        def __init__(self) -> None:
            base.__init__(self)

        def allocate_async(self, size: int, *_: Any) -> int:
            return memory.allocate(int(size))

        def reallocate(self, address: int, alignment: int, size: int) -> int:
            return 0

        def deallocate_async(self, address: int, *_: Any) -> bool:
            return memory.deallocate(int(address or 0))

    return Allocator()
