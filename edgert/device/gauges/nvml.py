"""NVIDIA's management library, through nvidia-ml-py: discrete GPUs, and Thor's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import msgspec
import pynvml

from edgert.device.gauges.gauge import Gauge
from edgert.errors import DeviceError
from edgert.stats import LiveCount


class _Gpu(msgspec.Struct, frozen=True):
    handle: Any
    labels: dict[str, str]
    started_mj: int  # its energy count when the meter was opened


class NvmlMeter:
    """All GPUs that the driver shows. What a GPU does not measure is left out."""

    live: ClassVar[LiveCount] = LiveCount("nvml")

    def __init__(self) -> None:
        self._gpus: list[_Gpu] = []

    def open(self) -> None:
        """Find the GPUs. Raises DeviceError where the library is not there."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise DeviceError(f"NVML cannot be used: {error}") from error
        self.live.opened()
        indices = range(_ask(pynvml.nvmlDeviceGetCount) or 0)
        handles = [_ask(pynvml.nvmlDeviceGetHandleByIndex, index) for index in indices]
        self._gpus = [_open_gpu(handle) for handle in handles if handle is not None]

    def close(self) -> None:
        """Let go of the library. Only after `open`."""
        self._gpus = []
        _ask(pynvml.nvmlShutdown)
        self.live.closed()

    def read(self) -> Iterator[Gauge]:
        """Return each GPU's utilisation, memory, power and energy."""
        for gpu in self._gpus:
            for name, value in _readings(gpu):
                yield Gauge(name, value, gpu.labels)


def _open_gpu(handle: Any) -> _Gpu:
    energy_mj = _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle) or 0
    return _Gpu(handle, {"gpu_uuid": str(_ask(pynvml.nvmlDeviceGetUUID, handle))}, energy_mj)


def _readings(gpu: _Gpu) -> Iterator[tuple[str, float]]:
    if (rates := _ask(pynvml.nvmlDeviceGetUtilizationRates, gpu.handle)) is not None:
        yield "nv_gpu_utilization", rates.gpu / 100
    if (memory := _memory(gpu.handle)) is not None:
        yield "nv_gpu_memory_total_bytes", memory.total
        yield "nv_gpu_memory_used_bytes", memory.used
    if (used_mw := _ask(pynvml.nvmlDeviceGetPowerUsage, gpu.handle)) is not None:
        yield "nv_gpu_power_usage", used_mw / 1000
    if (limit_mw := _ask(pynvml.nvmlDeviceGetPowerManagementLimit, gpu.handle)) is not None:
        yield "nv_gpu_power_limit", limit_mw / 1000
    if (energy_mj := _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, gpu.handle)) is not None:
        yield "nv_energy_consumption", (energy_mj - gpu.started_mj) / 1000


def _memory(handle: Any) -> Any:
    """Return bytes of memory; older drivers count as used what they reserve for themselves."""
    return _ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or _ask(
        pynvml.nvmlDeviceGetMemoryInfo, handle
    )


def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the library's answer; None where it has none."""
    try:
        return function(*arguments)
    except pynvml.NVMLError:
        return None
