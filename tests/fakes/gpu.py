"""A device with the attributes of a GPU and the speeds that a test gives it; its memory is the host's."""

from __future__ import annotations

import sys
from types import ModuleType

from edgert.device.board import CudaDriverProbe
from edgert.device.host import HostDriver, HostEvent, HostStream
from edgert.device.memory import MemoryKind
from edgert.errors import DeviceError


class FakeGpu(HostDriver):
    """Copies take virtual time by where they read: `gb_s` by kind, 1000 GB/s if it is not there.

    `failures` are raised for the kinds named there when memory of them is asked for.
    """

    name = "cuda"

    def __init__(self, attributes, gb_s=None, failures=None):
        super().__init__()
        self.opened = 0
        self.asked = []  # kinds of memory, in order
        self.copied = []  # (kind read, kind written)
        self.device_ns = 0
        self._attributes = {"name": "Fake GPU", "compute_capability": "8.7", **attributes}
        self._gb_s = gb_s or {}
        self._failures = failures or {}
        self._kinds = {}

    def open(self):
        self.opened += 1

    def close(self):
        self.opened -= 1

    def attributes(self):
        return self._attributes

    def allocate(self, size_bytes, kind=MemoryKind.PAGEABLE, owner=""):
        self.asked.append(kind)
        if kind in self._failures:
            raise self._failures[kind]
        buffer = super().allocate(size_bytes, kind, owner)
        self._kinds[buffer.address] = kind
        return buffer

    def open_stream(self, priority=0):
        return _FakeStream(self)

    def open_event(self, *, is_timed=False):
        return _FakeEvent(is_timed)


class _FakeStream(HostStream):
    def __init__(self, gpu):
        super().__init__()
        self._gpu = gpu

    def copy(self, destination, source, size_bytes):
        super().copy(destination, source, size_bytes)
        read, written = (self._gpu._kinds[address] for address in (source, destination))
        self._gpu.copied.append((read, written))
        self._gpu.device_ns += size_bytes / self._gpu._gb_s.get(read, 1000)

    def record(self, event):
        event.recorded_mono_ns = self._gpu.device_ns


class _FakeEvent(HostEvent):
    def __init__(self, is_timed):
        super().__init__()
        self._is_timed = is_timed

    def elapsed_ms(self, since):
        if not self._is_timed:
            raise DeviceError("This event was opened without time.")
        return super().elapsed_ms(since)


def put_gpu(monkeypatch, gpu, *more):
    """Make fakes the machine's GPUs and return the first; with None there is a driver, and no pycuda."""
    module = None
    if gpu is not None:
        module = ModuleType("edgert.device.cuda")
        module.CudaDriver = lambda budget=None, index=0: (gpu, *more)[index]
    monkeypatch.setitem(sys.modules, "edgert.device.cuda", module)
    monkeypatch.setattr("edgert.device.opened.probe_cuda_driver", lambda: CudaDriverProbe((13, 0)))
    return gpu
