"""A reading, and what its name means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

INTEGRATED = "integrated"  # stands where other GPUs have their UUID


class Gauge(msgspec.Struct, frozen=True):
    """One reading."""

    name: str  # of `HELP`
    value: float
    labels: dict[str, str] = {}


class Meter(Protocol):
    """A part of the machine that is read again and again."""

    def read(self) -> Iterator[Gauge]:
        """Return what can be read now. Must not raise."""


# Names and texts with `nv_` are the Inference Server's.
HELP = {
    "nv_cpu_utilization": "CPU utilization rate [0.0 - 1.0]",
    "nv_cpu_memory_total_bytes": "CPU total memory (RAM), in bytes",
    "nv_cpu_memory_used_bytes": "CPU used memory (RAM), in bytes",
    "nv_gpu_utilization": "GPU utilization rate [0.0 - 1.0)",
    "nv_gpu_memory_total_bytes": "GPU total memory, in bytes",
    "nv_gpu_memory_used_bytes": "GPU used memory, in bytes",
    "nv_gpu_power_usage": "GPU power usage in watts",
    "nv_gpu_power_limit": "GPU power management limit in watts",
    "nv_energy_consumption": "GPU energy consumption in joules since the Triton Server started",
    "edgert_emc_utilization": "Memory controller utilization rate [0.0 - 1.0]",
    "edgert_nvmap_bytes": "Memory that all processes hold through NvMap, in bytes",
    "edgert_power_watts": "Power by rail; one rail may feed another",
    "edgert_temperature_celsius": "Temperature by thermal zone",
}
COUNTERS = frozenset({"nv_energy_consumption"})  # these only grow
