"""How long each layer of an engine takes, asked of its runtime in a run of its own.

Layers are timed one after the other, so their sum is more than a batch takes otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import msgspec

from edgert.errors import ConfigError
from edgert.execute.engine import Engine, Fill, Lane, LayerInfo
from edgert.perf.drive import Bell, Drive, Rig
from edgert.perf.load import ClosedLoad
from edgert.perf.measure import median
from edgert.perf.options import Window
from edgert.pipeline.warm_up import warm_up

OnLayer = Callable[[str, float], None]

RUNS = 50


@runtime_checkable
class LayerProfiler(Protocol):
    """What an engine offers that can time its layers."""

    def open_profiled_lane(self, max_batch: int, on_done: Callable[[], None], on_layer: OnLayer) -> Lane:
        """Return a lane without graphs that tells every layer of every batch: name and milliseconds.

        Layers are told in the order in which they run, before `poll` returns their batch.
        """


class LayerTimes(msgspec.Struct, frozen=True):
    """One layer over all runs. `mean_ms` is its part of a run, `share` of the sum over all layers."""

    name: str
    mean_ms: float
    median_ms: float
    share: float
    kind: str = ""
    precision: str = ""
    tactic: str = ""


class LayerTable:
    """Collects what a profiler tells."""

    def __init__(self) -> None:
        self._times_ms: dict[str, list[float]] = {}

    def add(self, name: str, took_ms: float) -> None:
        """Hear of one layer's run."""
        self._times_ms.setdefault(name, []).append(took_ms)

    def clear(self) -> None:
        """Forget what was told so far."""
        self._times_ms.clear()

    def rows(self, described: Mapping[str, LayerInfo]) -> tuple[LayerTimes, ...]:
        """Return the layers in the order in which they run."""
        runs = min((len(times) for times in self._times_ms.values()), default=0)
        total_ms = sum(sum(times) for times in self._times_ms.values())
        rows = []
        for name, times in self._times_ms.items():
            own = described.get(name, LayerInfo(name))
            mean_ms, middle_ms = round(sum(times) / runs, 6), round(median(sorted(times)), 6)
            share = round(sum(times) / total_ms, 6) if total_ms else 0.0
            rows.append(LayerTimes(name, mean_ms, middle_ms, share, own.kind, own.precision, own.tactic))
        return tuple(rows)


def demand_profiler(engine: Engine) -> LayerProfiler:
    """Return the engine as what times its layers. Raises ConfigError if it cannot."""
    if not isinstance(engine, LayerProfiler):
        raise ConfigError(f"--layers: the runtime {engine.info.runtime} does not tell its layers' times")
    return engine


def profile_layers(
    engine: Engine, batch: int, next_fill: Callable[[], Fill], is_stopping: Callable[[], bool], title: str
) -> tuple[LayerTimes, ...]:
    """Run an engine `RUNS` times, batch by batch, and return its layers' times.

    Raises:
        ConfigError: the engine cannot time its layers.
    """
    table, bell = LayerTable(), Bell()
    lane = demand_profiler(engine).open_profiled_lane(batch, bell.ring, table.add)
    try:
        warm_up(lane, title, next_fill())
        table.clear()
        drive = Drive(Rig([lane], next_fill, bell, engine.is_driven), ClosedLoad(1), is_stopping)
        drive.run(Window(0, 0, RUNS))
    finally:
        lane.close()
    return table.rows({layer.name: layer for layer in engine.details().layers})
