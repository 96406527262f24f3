"""NVML with the GPUs that a test gives it, called by the functions of nvidia-ml-py."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from edgert.device.gauges import gauges


class NVMLError(Exception):
    """What the library raises."""


class FakeNvml:
    """`gpus` are dicts of `uuid` and what the GPU measures: `gpu_percent`, `memory` (total, used),
    `power_mw`, `limit_mw`, `energy_mj`; what is not there is not supported. None is a GPU that is lost.
    """

    NVMLError = NVMLError
    nvmlMemory_v2 = 2  # noqa: N815 - the library's name

    def __init__(self, *gpus, is_there=True, is_old=False):
        self.gpus = list(gpus)
        self.is_there = is_there
        self.is_old = is_old  # its driver
        self.opened = 0

    def nvmlInit(self):
        if not self.is_there:
            raise NVMLError("NVML Shared Library Not Found")
        self.opened += 1

    def nvmlShutdown(self):
        self.opened -= 1

    def nvmlDeviceGetCount(self):
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        if self.gpus[index] is None:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetUUID(self, handle):
        return self._measured(handle, "uuid")

    def nvmlDeviceGetUtilizationRates(self, handle):
        return SimpleNamespace(gpu=self._measured(handle, "gpu_percent"), memory=1)

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        if version == self.nvmlMemory_v2 and self.is_old:
            raise NVMLError("Function Not Found")
        total, used = self._measured(handle, "memory")
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._measured(handle, "power_mw")

    def nvmlDeviceGetPowerManagementLimit(self, handle):
        return self._measured(handle, "limit_mw")

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._measured(handle, "energy_mj")

    def _measured(self, handle, name):
        if name not in self.gpus[handle]:
            raise NVMLError("Not Supported")
        return self.gpus[handle][name]


def put_nvml(monkeypatch, nvml):
    """Make `nvml` the library until the test ends; None: there is none."""
    meter = "edgert.device.gauges.nvml"  # imports it anew
    monkeypatch.setattr(gauges, "has_nvml", lambda: nvml is not None)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setitem(sys.modules, meter, None)  # so that afterwards it is as it was
    monkeypatch.delitem(sys.modules, meter)
