"""CPU and memory of any Linux machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from edgert.device.gauges.files import read_text
from edgert.device.gauges.gauge import Gauge

_LEAST_TICKS = 20  # a shorter while says nothing; the last answer stands
_IDLE = (3, 4)  # idle, iowait
_COUNTED = 8  # user nice system idle iowait irq softirq steal; guests are in user and nice already


class CpuTimes(msgspec.Struct, frozen=True):
    """Ticks of all cores since the machine started."""

    busy: int = 0
    total: int = 0


class HostMeter:
    """Utilisation is that of the time since the last reading, before the second one since the start."""

    def __init__(self, root: Path) -> None:
        self._stat = root / "proc/stat"
        self._meminfo = root / "proc/meminfo"
        self._before = CpuTimes()
        self._utilization: float | None = None
        self._look()

    def read(self) -> Iterator[Gauge]:
        """Return CPU utilisation and memory."""
        self._look()
        if self._utilization is not None:
            yield Gauge("nv_cpu_utilization", self._utilization)
        memory = _memory_bytes(read_text(self._meminfo))
        if memory is not None:
            total, available = memory
            yield Gauge("nv_cpu_memory_total_bytes", total)
            yield Gauge("nv_cpu_memory_used_bytes", total - available)

    def _look(self) -> None:
        now = _cpu_times(read_text(self._stat))
        if now is None or (total := now.total - self._before.total) < _LEAST_TICKS:
            return
        busy = now.busy - self._before.busy
        self._utilization = round(min(max(busy / total, 0.0), 1.0), 4)  # iowait may fall
        self._before = now


def _cpu_times(text: str) -> CpuTimes | None:
    name, *ticks = text.partition("\n")[0].split() or [""]
    if name != "cpu" or len(ticks) < _COUNTED or not all(map(str.isdigit, ticks)):
        return None
    counted = [int(tick) for tick in ticks[:_COUNTED]]
    total = sum(counted)
    return CpuTimes(total - sum(counted[index] for index in _IDLE), total)


def _memory_bytes(text: str) -> tuple[int, int] | None:
    """Return what there is and what is available, from lines such as `MemTotal:  7620704 kB`."""
    kib = {
        name: fields[0]
        for name, _, rest in (line.partition(":") for line in text.splitlines())
        if (fields := rest.split()) and fields[0].isdigit()
    }
    if "MemTotal" not in kib or "MemAvailable" not in kib:
        return None
    return int(kib["MemTotal"]) * 1024, int(kib["MemAvailable"]) * 1024
