"""GPU, memory controller and NvMap of a Jetson, as L4T 35 to 38 show them. Surface-tested only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from edgert.device.gauges.files import first_number, read_number, read_text
from edgert.device.gauges.gauge import INTEGRATED, Gauge

_GPU = re.compile(r"gpu|\.g[a-z]\d+b$")  # 17000000.gpu, gpu-gpc-0; before L4T 36 17000000.ga10b or gv11b
_FULL_LOAD = 1000
# Without devfreq, or where its governor is not built in.
_GPU_DEVICES = (
    "sys/devices/gpu.*/load",
    "sys/devices/platform/gpu.*/load",
    "sys/devices/platform/*.gpu/load",
    "sys/devices/platform/bus@0/*.gpu/load",
)
_EMC_ACTIVITY = (
    "sys/kernel/debug/cactmon/mc_all",
    "sys/kernel/debug/bpmp/debug/actmon/mc_all_avg_activity",
    "sys/kernel/actmon_avg_activity/mc_all",
)
_EMC_RATE = (  # Hz
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/class/devfreq/bwmgr/cur_freq",
    "sys/kernel/debug/clk/emc/clk_rate",
)
_NVMAP = "sys/kernel/debug/nvmap/iovmm/clients"
_NVMAP_TOTAL = re.compile(r"(?m)^\s*total\s+(\d+)([KMG]?)\s*$")
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class GpuLoadMeter:
    """How busy the integrated GPU is."""

    def __init__(self, root: Path) -> None:
        self._load = first_number(_gpu_loads(root))

    def read(self) -> Iterator[Gauge]:
        """Return its utilisation."""
        load = read_number(self._load) if self._load else None
        if load is not None:
            yield Gauge("nv_gpu_utilization", min(load / _FULL_LOAD, 1.0), {"gpu_uuid": INTEGRATED})


class MemoryControllerMeter:
    """How busy the memory controller is, by the activity monitor that tegrastats reads too."""

    def __init__(self, root: Path) -> None:
        self._activity = first_number(root / path for path in _EMC_ACTIVITY)
        self._rate = first_number(root / path for path in _EMC_RATE)

    def read(self) -> Iterator[Gauge]:
        """Return its utilisation."""
        if self._activity is None or self._rate is None:
            return
        activity, rate_hz = read_number(self._activity), read_number(self._rate)
        if activity is not None and rate_hz:
            percent = activity / (rate_hz / 1000)  # the monitor counts so that kHz give per cent
            yield Gauge("edgert_emc_utilization", round(min(percent / 100, 1.0), 4))


class NvMapMeter:
    """What multimedia and GPU buffers take of the shared memory; only root may read it."""

    def __init__(self, root: Path) -> None:
        self._clients = root / _NVMAP
        self._is_there = bool(read_text(self._clients))

    def read(self) -> Iterator[Gauge]:
        """Return the total of all processes."""
        found = _NVMAP_TOTAL.search(read_text(self._clients)) if self._is_there else None
        if found:
            yield Gauge("edgert_nvmap_bytes", int(found[1]) * _FACTORS[found[2]])


def _gpu_loads(root: Path) -> Iterator[Path]:
    """Return where the load may stand, the likeliest first."""
    for entry in sorted(root.glob("sys/class/devfreq/*")):
        if _GPU.search(entry.name) or _GPU.search(read_text(entry / "device/of_node/name")):
            yield from (entry / "device/load", entry / "load")
    for pattern in _GPU_DEVICES:
        yield from sorted(root.glob(pattern))
