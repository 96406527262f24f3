"""All meters of this machine behind one reading."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from edgert.device.gauges.gauge import Gauge, Meter
from edgert.device.gauges.host import HostMeter
from edgert.device.gauges.jetson import GpuLoadMeter, MemoryControllerMeter, NvMapMeter
from edgert.device.gauges.sensors import RailMeter, TemperatureMeter
from edgert.errors import DeviceError

log = logging.getLogger(__name__)

_FILE_METERS = (HostMeter, GpuLoadMeter, MemoryControllerMeter, NvMapMeter, RailMeter, TemperatureMeter)


class Gauges:
    """Finds what there is when it is opened; a reading then takes a few small files. Any thread reads."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` is where `proc` and `sys` lie."""
        self._root = root
        self._meters: list[Meter] = []
        self._undo = ExitStack()
        self._lock = threading.Lock()

    def open(self) -> None:
        """Look what this machine has."""
        self._open_nvml()
        self._meters += [meter(self._root) for meter in _FILE_METERS]

    def close(self) -> None:
        """Let go of it. Allowed also when not open."""
        with self._lock:
            self._meters = []
            self._undo.close()

    def read(self) -> list[Gauge]:
        """Return what can be read now; what NVML and a file both say is NVML's. Does not raise."""
        found: list[Gauge] = []
        with self._lock:
            for meter in self._meters:
                told = {gauge.name for gauge in found}
                found += [gauge for gauge in meter.read() if gauge.name not in told]
        return found

    def _open_nvml(self) -> None:
        if not has_nvml():
            return
        try:
            from edgert.device.gauges.nvml import NvmlMeter  # an optional library

            meter = NvmlMeter()
            meter.open()
        except (ImportError, DeviceError) as error:
            log.debug("no GPU metrics from NVML: %s", error)
            return
        self._undo.callback(meter.close)
        self._meters.append(meter)


def has_nvml() -> bool:
    """Say whether NVIDIA's driver brought the library: only then is its module, of 2 MB, worth loading."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def describe_gauges(root: Path = Path("/")) -> str:
    """Return the names of what can be read here, with how many there are where it is several."""
    gauges = Gauges(root)
    gauges.open()
    try:
        counts = Counter(gauge.name for gauge in gauges.read())
    finally:
        gauges.close()
    return ", ".join(name + (f" ({count})" if count > 1 else "") for name, count in sorted(counts.items()))
