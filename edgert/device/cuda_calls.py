"""The calls of the CUDA driver that lanes make for every frame, straight from libcuda.

They are bound with `ctypes.PyDLL`, which keeps the interpreter's lock: they do not wait for the device, and
a call that gives the lock away for two microseconds has to queue for it behind every other thread: beside
four busy threads a copy took 185 µs on average through pycuda, which gives the lock away, and 13 µs so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from functools import cache
from typing import Any

from edgert.errors import DeviceError, DeviceLostError, OutOfDeviceMemoryError

NOT_READY = 600
_OUT_OF_MEMORY = 2
# After these nothing but a new process helps: the context is gone, or everything in it is in doubt.
_LOST = frozenset({4, 46, 100, 101, 214, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 802, 999})

_HANDLE, _OUT = c_void_p, POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuCtxGetStreamPriorityRange": (POINTER(c_int), POINTER(c_int)),
    "cuStreamCreateWithPriority": (_OUT, c_uint, c_int),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuStreamWaitEvent": (_HANDLE, _HANDLE, c_uint),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, _OUT),
    "cuEventCreate": (_OUT, c_uint),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventQuery": (_HANDLE,),
    "cuEventElapsedTime": (POINTER(c_float), _HANDLE, _HANDLE),
    "cuMemcpyAsync": (c_uint64, c_uint64, c_size_t, _HANDLE),
    "cuMemHostGetDevicePointer_v2": (POINTER(c_uint64), c_void_p, c_uint),
    "cuMemsetD8Async": (c_uint64, ctypes.c_ubyte, c_size_t, _HANDLE),
    "cuModuleGetFunction": (_OUT, _HANDLE, ctypes.c_char_p),
    "cuLaunchKernel": (_HANDLE, *(c_uint,) * 7, _HANDLE, _OUT, _OUT),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
}
# These may wait for the device, so they give the lock away.
_WAITING: dict[str, tuple[Any, ...]] = {
    "cuStreamSynchronize": (_HANDLE,),
    "cuEventSynchronize": (_HANDLE,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostRegister_v2": (c_void_p, c_size_t, c_uint),
    "cuMemHostUnregister": (c_void_p,),
    "cuModuleLoadData": (_OUT, c_void_p),
    "cuModuleUnload": (_HANDLE,),
    "cuGraphInstantiateWithFlags": (_OUT, _HANDLE, c_uint64),
}

Call = Callable[..., int]


class Calls:
    """Functions of libcuda by name; each returns a status for `check`."""

    def __init__(self) -> None:
        """Raises DeviceError where there is no driver."""
        try:
            held, waiting = ctypes.PyDLL("libcuda.so.1"), ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise DeviceError(f"There is no CUDA driver here: {error}") from error
        for name, types in _SIGNATURES.items():
            self._bind(held, name, types)
        for name, types in _WAITING.items():
            self._bind(waiting, name, types)
        self._names = held.cuGetErrorName
        self._texts = held.cuGetErrorString

    def __getattr__(self, name: str) -> Call:
        raise AttributeError(name)

    def check(self, status: int, what: str) -> None:
        """Raise what a status means; nothing for success."""
        if status:
            raise self.error(status, what)

    def check_freed(self, status: int, what: str) -> None:
        """As `check`, but a lost device is no error: what was to be freed went with it."""
        if status and status not in _LOST:
            raise self.error(status, what)

    def error(self, status: int, what: str) -> DeviceError:
        """Return the error for a status that is not success."""
        text = f"{what} failed: {self._say(self._names, status)} ({self._say(self._texts, status)})"
        if status == _OUT_OF_MEMORY:
            return OutOfDeviceMemoryError(f"{text}. Load fewer models, lanes or sources.")
        if status in _LOST:
            return DeviceLostError(f"{text}. The process has to be started again.")
        return DeviceError(text)

    def _bind(self, library: ctypes.CDLL, name: str, types: tuple[Any, ...]) -> None:
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise DeviceError(f"The CUDA driver is too old: it has no {name}.") from error
        function.argtypes, function.restype = types, c_int
        self.__dict__[name] = function

    @staticmethod
    def _say(function: Any, status: int) -> str:
        text = ctypes.c_char_p()
        function(status, ctypes.byref(text))
        return (text.value or b"unknown").decode()


@cache
def cuda_calls() -> Calls:
    """Return the functions, bound once. Raises DeviceError."""
    return Calls()
