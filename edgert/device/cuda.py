"""An NVIDIA GPU as a device. pycuda has the context, the memory and the facts; `cuda_stream` the work."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ctypes import byref, c_uint64
from functools import partial
from typing import Any

import numpy as np
import pycuda.driver as cuda

from edgert.device.cuda_calls import Calls, cuda_calls
from edgert.device.cuda_stream import CudaEvent, CudaKernel, CudaStream
from edgert.device.memory import Budget, Buffer, MemoryKind
from edgert.errors import DeviceError, DeviceLostError, OutOfDeviceMemoryError

_REGISTER_MAPPED = 2  # CU_MEMHOSTREGISTER_DEVICEMAP

# Memory, as an array for the host or None; where the device finds it; how it is freed.
Made = tuple[Any, int, Callable[[], object]]


class CudaDriver:
    """A Driver on the primary context of one GPU, which TensorRT and other libraries share."""

    name = "cuda"

    def __init__(self, budget: Budget | None = None, index: int = 0) -> None:
        self.budget = budget or Budget()
        self._index = index
        self._context: Any = None
        self._device: Any = None
        self._calls: Calls
        self._kernels: dict[tuple[int, str], CudaKernel] = {}

    def open(self) -> None:
        """Take the device's primary context. Raises DeviceError."""
        self._calls = cuda_calls()
        try:
            cuda.init()
            _demand_gpu(self._index, cuda.Device.count())
            self._device = cuda.Device(self._index)
            self._context = self._device.retain_primary_context()
        except cuda.Error as error:
            raise DeviceError(f"GPU {self._index} cannot be opened: {error}") from error

    def close(self) -> None:
        """Let the context go. Allowed again."""
        context, self._context = self._context, None
        if context is None:
            return
        context.push()
        try:
            for kernel in self._kernels.values():
                kernel.unload()
            self._kernels.clear()
        finally:
            cuda.Context.pop()
            context.detach()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the context current; it is popped also on errors, else pycuda ends the process."""
        if self._context is None:
            raise DeviceError("The GPU is not open.")
        self._context.push()
        try:
            yield
        finally:
            cuda.Context.pop()

    def allocate(self, size_bytes: int, kind: MemoryKind = MemoryKind.PAGEABLE, owner: str = "") -> Buffer:
        """Return memory of a kind. Raises OutOfDeviceMemoryError, DeviceError."""
        self.budget.take(size_bytes, owner, kind.value)
        give_back = partial(self.budget.give_back, owner=owner, kind=kind.value)
        try:
            with self.current():
                array, address, free = _MAKERS[kind](max(size_bytes, 1))
        except BaseException as error:
            give_back(size_bytes)
            raise self._refusal(error, size_bytes, kind) from error
        view = None if array is None else array[:size_bytes]
        return Buffer(view, self._freer(free, give_back), size_bytes=size_bytes, address=address, kind=kind)

    def open_stream(self, priority: int = 0) -> CudaStream:
        """Return a stream that the default stream does not order."""
        with self.current():
            return CudaStream(self._calls, priority)

    def open_event(self, *, is_timed: bool = False) -> CudaEvent:
        """Return an event whose `synchronize` sleeps."""
        with self.current():
            return CudaEvent(self._calls, is_timed=is_timed)

    def load_kernel(self, image: bytes, name: str) -> CudaKernel:
        """Return a kernel; the same image and name are loaded once and unloaded with the driver."""
        key = hash(image), name
        if key not in self._kernels:
            with self.current():
                self._kernels[key] = CudaKernel(self._calls, image, name)
        return self._kernels[key]

    def attributes(self) -> Mapping[str, str | int]:
        """Return name, compute capability, driver version, and CUDA's device attributes by their names."""
        major, minor = self._device.compute_capability()
        facts: dict[str, str | int] = {
            "name": self._device.name(),
            "compute_capability": f"{major}.{minor}",
            "cuda_version": cuda.get_driver_version(),
        }
        attributes = self._device.get_attributes().items()
        return facts | {str(name): int(value) for name, value in attributes if isinstance(value, int)}

    def memory_info(self) -> tuple[int, int]:
        """Return free and total bytes; on a Jetson, what Linux could free is not in them."""
        with self.current():
            free, total = cuda.mem_get_info()
        return int(free), int(total)

    def _is_lost(self) -> bool:
        """Say whether the device answers nothing any more: then even this question fails."""
        try:
            self.memory_info()
        except cuda.Error:
            return True
        return False

    def _freer(self, free: Callable[[], object], give_back: Callable[[int], None]) -> Callable[[int], None]:
        def release(size_bytes: int) -> None:
            with self.current():
                free()
            give_back(size_bytes)

        return release

    def _refusal(self, error: BaseException, size_bytes: int, kind: MemoryKind) -> BaseException:
        if isinstance(error, cuda.Error) and self._is_lost():
            return DeviceLostError(f"The device is lost: {error}. The process has to be started again.")
        if isinstance(
            error, OutOfDeviceMemoryError | cuda.MemoryError | MemoryError | OverflowError | OSError
        ):
            return OutOfDeviceMemoryError(
                f"The device has no {size_bytes} bytes of {kind.value} memory left; edgert holds "
                f"{self.budget.used_bytes}{self.budget.holders()}. Load fewer models, lanes or sources."
            )
        if isinstance(error, cuda.Error):
            return DeviceError(f"The device gives no {kind.value} memory ({size_bytes} bytes): {error}")
        return error


def _demand_gpu(index: int, count: int) -> None:
    """Raise DeviceError for a GPU that is not there."""
    if index >= count:
        there = f"{count} GPUs, 0 to {count - 1}" if count > 1 else "one GPU, number 0"
        raise DeviceError(f"GPU {index} is not there; this machine has {there if count else 'none'}")


def _device(size_bytes: int) -> Made:
    """Not through pycuda, which keeps the interpreter's lock while a free waits for the whole device."""
    if size_bytes >> 63:  # ctypes would pass its lower bits
        raise OverflowError
    calls, address = cuda_calls(), c_uint64()
    calls.check(calls.cuMemAlloc_v2(byref(address), size_bytes), f"Allocating {size_bytes} bytes")
    return None, address.value, partial(_free, address.value)


def _free(address: int) -> None:
    calls = cuda_calls()
    calls.check_freed(calls.cuMemFree_v2(address), "Freeing memory")


def _pinned(size_bytes: int, flags: int = 0) -> Made:
    array = cuda.pagelocked_empty(size_bytes, np.uint8, mem_flags=flags | cuda.host_alloc_flags.PORTABLE)
    address = array.base.get_device_pointer() if flags else array.ctypes.data
    return array, int(address), array.base.free


def _mapped(size_bytes: int) -> Made:
    return _pinned(size_bytes, cuda.host_alloc_flags.DEVICEMAP)


def _managed(size_bytes: int) -> Made:
    array = cuda.managed_empty(size_bytes, np.uint8, mem_flags=cuda.mem_attach_flags.GLOBAL)
    return array, array.ctypes.data, array.base.free


def _pageable(size_bytes: int) -> Made:
    array = np.frombuffer(mmap.mmap(-1, size_bytes), np.uint8)
    return array, array.ctypes.data, lambda: None


def _registered(size_bytes: int) -> Made:
    """Pin whole pages of the process. pycuda's own call fails with newer versions of NumPy."""
    calls = cuda_calls()
    pages = mmap.mmap(-1, -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE)
    array = np.frombuffer(pages, np.uint8)
    here, there = array.ctypes.data, c_uint64()
    status = calls.cuMemHostRegister_v2(here, array.nbytes, _REGISTER_MAPPED)
    calls.check(status, f"Registering {array.nbytes} bytes")
    if status := calls.cuMemHostGetDevicePointer_v2(byref(there), here, 0):
        _unregister(array)
        raise calls.error(status, "Finding registered memory")
    return array, there.value, partial(_unregister, array)


def _unregister(array: Any) -> None:
    calls = cuda_calls()
    calls.check_freed(calls.cuMemHostUnregister(array.ctypes.data), "Unregistering memory")


_MAKERS: dict[MemoryKind, Callable[[int], Made]] = {
    MemoryKind.DEVICE: _device,
    MemoryKind.PINNED: _pinned,
    MemoryKind.MAPPED: _mapped,
    MemoryKind.MANAGED: _managed,
    MemoryKind.REGISTERED: _registered,
    MemoryKind.PAGEABLE: _pageable,
}
