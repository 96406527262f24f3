"""Power rails and temperatures, from hwmon and the thermal zones. Surface-tested only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edgert.device.gauges.files import read_number, read_text
from edgert.device.gauges.gauge import INTEGRATED, Gauge

_GPU_RAILS = ("GPU", "VDD_GPU", "VDD_SYS_GPU")  # that feed the GPU and nothing else
_INPUT_RAIL = "VIN"  # what Thor's carrier measures of the whole board, without a label
_COLDEST_MILLIDEGREES = -100_000  # sensors that are off say -256000


class RailMeter:
    """Power by rail, as INA3221 and INA238 monitors measure it; a reading takes them about a millisecond."""

    def __init__(self, root: Path) -> None:
        self._currents: dict[str, tuple[Path, Path]] = {}  # rail: where millivolts and milliamperes stand
        self._powers: dict[str, Path] = {}  # rail: where microwatts stand
        for hwmon in sorted(root.glob("sys/class/hwmon/hwmon*")):
            name = read_text(hwmon / "name")
            if name == "ina3221":
                self._add_channels(hwmon)
            elif name == "ina238":
                self._powers.setdefault(read_text(hwmon / "in1_label") or _INPUT_RAIL, hwmon / "power1_input")
        rails = {*self._currents, *self._powers}
        self._gpu_rail = next((rail for rail in _GPU_RAILS if rail in rails), "")

    def read(self) -> Iterator[Gauge]:
        """Return watts by rail, and those of the GPU where it has a rail of its own."""
        for rail, watts in self._watts():
            yield Gauge("edgert_power_watts", round(watts, 3), {"rail": rail})
            if rail == self._gpu_rail:
                yield Gauge("nv_gpu_power_usage", round(watts, 3), {"gpu_uuid": INTEGRATED})

    def _add_channels(self, hwmon: Path) -> None:
        for path in sorted(hwmon.glob("in*_label")):
            label, channel = read_text(path), path.name.removeprefix("in").removesuffix("_label")
            amperes = hwmon / f"curr{channel}_input"
            if label not in ("", "NC") and os.access(
                amperes, os.R_OK
            ):  # one of the labels is that of a sum of voltages
                self._currents.setdefault(label, (hwmon / f"in{channel}_input", amperes))

    def _watts(self) -> Iterator[tuple[str, float]]:
        for rail, (volts, amperes) in self._currents.items():
            millivolts, milliamperes = read_number(volts), read_number(amperes)
            if millivolts is not None and milliamperes is not None:
                yield rail, millivolts * milliamperes / 1e6
        for rail, power in self._powers.items():
            microwatts = read_number(power)
            if microwatts is not None:
                yield rail, microwatts / 1e6


class TemperatureMeter:
    """Temperature by thermal zone. A zone whose part has no power is left out."""

    def __init__(self, root: Path) -> None:
        self._zones: dict[str, Path] = {}
        for folder in sorted(root.glob("sys/class/thermal/thermal_zone*"), key=_number):
            name = read_text(folder / "type")
            if name and "PMIC" not in name:  # its driver answers with a constant
                self._zones[name if name not in self._zones else f"{name} {_number(folder)}"] = (
                    folder / "temp"
                )

    def read(self) -> Iterator[Gauge]:
        """Return degrees Celsius by zone."""
        for zone, path in self._zones.items():
            millidegrees = read_number(path)
            if millidegrees is not None and millidegrees > _COLDEST_MILLIDEGREES:
                yield Gauge("edgert_temperature_celsius", millidegrees / 1000, {"zone": zone})


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("thermal_zone")
    return int(digits) if digits.isdigit() else -1
