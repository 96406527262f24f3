"""CUDA streams, events, graphs and kernels, over `cuda_calls`."""

from __future__ import annotations

import ctypes
from ctypes import c_void_p
from typing import Any, ClassVar

from edgert.device.cuda_calls import NOT_READY, Calls
from edgert.device.driver import Event, Graph
from edgert.errors import ClosedError
from edgert.stats import LiveCount

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: the default stream does not order it
_BLOCKING_SYNC, _DISABLE_TIMING = 1, 2
_CAPTURE_THREAD_LOCAL = 1  # other threads may allocate meanwhile

Dimensions = tuple[int, int, int]


class CudaEvent:
    """An Event."""

    live: ClassVar[LiveCount] = LiveCount("CUDA event")

    def __init__(self, calls: Calls, *, is_timed: bool) -> None:
        self._calls = calls
        made = c_void_p()
        flags = _BLOCKING_SYNC | (0 if is_timed else _DISABLE_TIMING)
        calls.check(calls.cuEventCreate(ctypes.byref(made), flags), "Making an event")
        self.handle = made.value or 0
        self._query = calls.cuEventQuery
        self.live.opened()

    def is_done(self) -> bool:
        """Say whether the mark was passed. Raises DeviceLostError."""
        status = self._query(self.handle)
        if not status:
            return True
        if status == NOT_READY:
            return False
        raise self._calls.error(status, "Work on the device")

    def synchronize(self) -> None:
        """Wait, asleep, until the mark was passed. Raises DeviceLostError."""
        self._calls.check(self._calls.cuEventSynchronize(self.handle), "Work on the device")

    def elapsed_ms(self, since: Event) -> float:
        """Return the device's time between two marks that were passed."""
        took = ctypes.c_float()
        status = self._calls.cuEventElapsedTime(ctypes.byref(took), since.handle, self.handle)
        self._calls.check(status, "Reading the time between events")
        return took.value

    def close(self) -> None:
        """Free the event. ClosedError the second time."""
        handle, self.handle = _taken(self.handle, "event")
        self.live.closed()
        self._calls.check_freed(self._calls.cuEventDestroy_v2(handle), "Freeing an event")


class CudaGraph:
    """A Graph, instantiated."""

    live: ClassVar[LiveCount] = LiveCount("CUDA graph")

    def __init__(self, calls: Calls, captured: c_void_p) -> None:
        self._calls = calls
        made = c_void_p()
        status = calls.cuGraphInstantiateWithFlags(ctypes.byref(made), captured, 0)
        calls.cuGraphDestroy(captured)
        calls.check(status, "Making a graph of what was captured")
        self.handle = made.value or 0
        self.live.opened()

    def close(self) -> None:
        """Free the graph. ClosedError the second time."""
        handle, self.handle = _taken(self.handle, "graph")
        self.live.closed()
        self._calls.check_freed(self._calls.cuGraphExecDestroy(handle), "Freeing a graph")


class CudaStream:
    """A Stream."""

    live: ClassVar[LiveCount] = LiveCount("CUDA stream")

    def __init__(self, calls: Calls, priority: int) -> None:
        self._calls = calls
        made = c_void_p()
        status = calls.cuStreamCreateWithPriority(
            ctypes.byref(made), _NON_BLOCKING, _clamped(calls, -priority)
        )
        calls.check(status, "Making a stream")
        self.handle = made.value or 0
        self._copy, self._record, self._wait = (
            calls.cuMemcpyAsync,
            calls.cuEventRecord,
            calls.cuStreamWaitEvent,
        )
        self.live.opened()

    def copy(self, destination: int, source: int, size_bytes: int) -> None:
        """Enqueue a copy."""
        if status := self._copy(destination, source, size_bytes, self.handle):
            raise self._calls.error(status, f"Copying {size_bytes} bytes")

    def zero(self, destination: int, size_bytes: int) -> None:
        """Enqueue the setting of bytes to zero."""
        status = self._calls.cuMemsetD8Async(destination, 0, size_bytes, self.handle)
        self._calls.check(status, f"Setting {size_bytes} bytes")

    def record(self, event: Event) -> None:
        """Enqueue a mark."""
        if status := self._record(event.handle, self.handle):
            raise self._calls.error(status, "Recording an event")

    def wait(self, event: Event) -> None:
        """Let what comes wait for a mark."""
        if status := self._wait(self.handle, event.handle, 0):
            raise self._calls.error(status, "Waiting for an event")

    def launch_kernel(self, kernel: object, grid: Dimensions, block: Dimensions, parameters: Any) -> None:
        """Enqueue a kernel whose one argument is the structure `parameters`, which is copied."""
        assert isinstance(kernel, CudaKernel)  # noqa: S101 - kernels of one driver
        pointers = (c_void_p * 1)(ctypes.addressof(parameters))
        status = self._calls.cuLaunchKernel(kernel.handle, *grid, *block, 0, self.handle, pointers, None)
        if status:
            raise self._calls.error(status, f"Launching kernel {kernel.name}")

    def begin_capture(self) -> None:
        """Collect from now on."""
        status = self._calls.cuStreamBeginCapture_v2(self.handle, _CAPTURE_THREAD_LOCAL)
        self._calls.check(status, "Beginning to capture")

    def end_capture(self) -> CudaGraph:
        """Return what was collected; the stream works as before, also if this raises DeviceError."""
        captured = c_void_p()
        status = self._calls.cuStreamEndCapture(self.handle, ctypes.byref(captured))
        self._calls.check(status, "Capturing")
        return CudaGraph(self._calls, captured)

    def launch(self, graph: Graph) -> None:
        """Enqueue a graph."""
        assert isinstance(graph, CudaGraph)  # noqa: S101 - graphs of one driver
        if status := self._calls.cuGraphLaunch(graph.handle, self.handle):
            raise self._calls.error(status, "Launching a graph")

    def synchronize(self) -> None:
        """Wait for everything enqueued. Raises DeviceLostError."""
        self._calls.check(self._calls.cuStreamSynchronize(self.handle), "Work on the device")

    def close(self) -> None:
        """Free the stream. ClosedError the second time."""
        handle, self.handle = _taken(self.handle, "stream")
        self.live.closed()
        self._calls.check_freed(self._calls.cuStreamDestroy_v2(handle), "Freeing a stream")


class CudaKernel:
    """A function of a loaded module."""

    def __init__(self, calls: Calls, image: bytes, name: str) -> None:
        self.name = name
        module, function = c_void_p(), c_void_p()
        status = calls.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(image))
        calls.check(status, f"Loading the image with kernel {name}")
        status = calls.cuModuleGetFunction(ctypes.byref(function), module, name.encode())
        calls.check(status, f"Finding kernel {name}")
        self.handle = function.value or 0
        self._calls, self._module = calls, module

    def unload(self) -> None:
        """Unload the image."""
        self._calls.check_freed(self._calls.cuModuleUnload(self._module), "Unloading an image")


def _clamped(calls: Calls, priority: int) -> int:
    """Return the nearest priority that the device has; the driver's lower numbers go first."""
    least, greatest = ctypes.c_int(), ctypes.c_int()
    status = calls.cuCtxGetStreamPriorityRange(ctypes.byref(least), ctypes.byref(greatest))
    calls.check(status, "Asking for stream priorities")
    return max(greatest.value, min(least.value, priority))


def _taken(handle: int, what: str) -> tuple[int, int]:
    if not handle:
        raise ClosedError(f"This {what} was closed before.")
    return handle, 0
