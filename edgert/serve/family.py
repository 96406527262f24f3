"""Metric families, and their text in Prometheus's format 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from edgert.device.gauges.gauge import COUNTERS, HELP, Gauge

Labels = dict[str, str]


class Sample(msgspec.Struct, frozen=True):
    """One value; its name is the family's with `suffix` behind it."""

    suffix: str
    labels: Labels
    value: float


class Family(msgspec.Struct):
    """All samples of one name."""

    name: str
    kind: Literal["counter", "gauge", "summary", "histogram"]
    help: str
    samples: list[Sample] = []

    def add(self, labels: Labels, value: float, suffix: str = "") -> None:
        """Add a sample."""
        self.samples.append(Sample(suffix, labels, value))


def gauge_families(gauges: Iterable[Gauge]) -> Iterator[Family]:
    """Return the machine's gauges by name."""
    families: dict[str, Family] = {}
    for gauge in gauges:
        name = gauge.name
        if name not in families:
            families[name] = Family(name, "counter" if name in COUNTERS else "gauge", HELP[name])
        families[name].add(gauge.labels, gauge.value)
    yield from families.values()


def write_families(families: Iterable[Family]) -> bytes:
    """Return the text. Names are as given: other writers end those of counters with `_total`."""
    return "".join(line for family in families for line in _lines(family)).encode()


def _lines(family: Family) -> Iterator[str]:
    name = family.name
    yield f"# HELP {name} {family.help}\n# TYPE {name} {family.kind}\n"
    for sample in family.samples:
        labels = ",".join([f'{label}="{_escaped(value)}"' for label, value in sample.labels.items()])
        shown = f"{{{labels}}}" if labels else ""
        value = "NaN" if math.isnan(sample.value) else sample.value
        yield f"{name}{sample.suffix}{shown} {value}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
