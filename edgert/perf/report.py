"""Everything that one `edgert perf` found, as it is written in JSON."""

from __future__ import annotations

import statistics

import msgspec

from edgert.execute.engine import GraphCounts
from edgert.perf.bare import BareFigures
from edgert.perf.layers import LayerTimes
from edgert.perf.measure import Figures


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, and how."""

    model: str
    runtime: str
    device: str
    is_device: bool  # the engine runs on a device with memory of its own
    edgert: str  # the version
    batch: int
    lanes: int
    graphs: int  # kept for each buffer set at most
    device_times: bool
    threads: int  # of the CPU, for each lane; 0 where it does not apply
    input: str
    seed: int
    arrivals: str
    warm_up_ms: float
    duration_s: float
    latency_limit_ms: float | None


class PerfReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result. `best` is the index of the level with the highest throughput within the limit."""

    schema: str = "edgert.perf/1"
    setup: Setup
    levels: tuple[Figures, ...]
    best: int | None
    warnings: tuple[str, ...]
    graphs: GraphCounts = GraphCounts()  # over all lanes and levels, and their warm-up
    bare: BareFigures | None = None
    bare_ratios: tuple[float, ...] = ()  # edgert's best throughput by the plain loop's, run after run
    layers: tuple[LayerTimes, ...] = ()
    is_interrupted: bool = False

    @property
    def bare_ratio(self) -> float | None:
        """The median ratio; None without a plain loop."""
        return statistics.median(self.bare_ratios) if self.bare_ratios else None

    @property
    def headline(self) -> Figures:
        """The level that the summary is of: the best, or the only one over the limit."""
        return self.levels[0 if self.best is None else self.best]
