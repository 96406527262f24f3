"""What one measurement was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgert.execute.options import Runtime

Arrivals = Literal["poisson", "constant"]
Shape = tuple[int, ...]


class Level(msgspec.Struct, frozen=True):
    """One load: so many requests outstanding, or so many a second."""

    kind: Literal["concurrency", "rate"]
    value: float

    @property
    def title(self) -> str:
        """For people, e.g. `concurrency 4` or `rate 50/s`."""
        return f"{self.kind} {self.value:g}{'/s' if self.kind == 'rate' else ''}"


class Window(msgspec.Struct, frozen=True):
    """How long is measured. What begins during the warm-up is not counted."""

    warm_up_ns: int
    duration_ns: int
    iterations: int  # batches at least, however long they take


class InputFile(msgspec.Struct, frozen=True):
    """Real input for one tensor."""

    name: str
    file: Path


class PerfOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The command line of `edgert perf`, typed."""

    model: str
    store: Path | None = None
    runtime: Runtime | None = None  # None: as the model says
    batch: int | None = None  # None: 1, or what the engine prescribes
    lanes: int | None = None  # None: as the model says
    threads: int = 0  # CPU threads a lane of the host; 0: the cores shared among all lanes
    graphs: bool | None = None  # None: as the model says
    device_times: bool = True  # batches are timed by the device's own clock
    concurrency: tuple[float, ...] = ()
    rate: tuple[float, ...] = ()
    arrivals: Arrivals = "poisson"
    latency_limit_ms: float | None = None
    duration_s: float = 3.0
    warm_up_ms: float = 200.0
    iterations: int = 10
    inputs: tuple[InputFile, ...] = ()
    shapes: dict[str, Shape] = {}  # by input, without the batch axis
    seed: int = 0
    layers: bool = False
    nvtx: bool = False
    bare: bool = False

    @property
    def window(self) -> Window:
        """How long each level is measured."""
        return Window(round(self.warm_up_ms * 1e6), round(self.duration_s * 1e9), self.iterations)

    def levels(self, usual_concurrency: int) -> tuple[Level, ...]:
        """Return the loads to measure, in order.

        Without any that was asked for it is the concurrency that keeps every lane busy; with a latency
        limit it is 1, 2, 4, ... up to where the limit is.
        """
        if self.rate:
            return tuple(Level("rate", rate) for rate in self.rate)
        if self.concurrency:
            return tuple(Level("concurrency", count) for count in self.concurrency)
        if self.latency_limit_ms is not None:
            return tuple(Level("concurrency", 2.0**power) for power in range(9))
        return (Level("concurrency", usual_concurrency),)
