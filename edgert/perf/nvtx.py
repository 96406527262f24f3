"""Ranges for NVIDIA's profilers, off unless asked for: nsys shows what the submitting thread does when."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from edgert.errors import ConfigError
from edgert.execute.engine import BufferSet, Completed, Fill, GraphCounts, Lane, OnRead

Ranges = Callable[[str], AbstractContextManager[Any]]


def no_ranges(_: str) -> AbstractContextManager[Any]:
    """Return a range that nobody sees."""
    return nullcontext()


def open_ranges() -> Ranges:
    """Return what makes ranges in the domain `edgert`. Raises ConfigError without the package."""
    try:
        nvtx = importlib.import_module("nvtx")
    except ImportError as error:
        raise ConfigError(f"--nvtx needs the package nvtx: {error}. Run: pip install nvtx") from error
    return partial(nvtx.annotate, domain="edgert")


class RangedLane:
    """A Lane (see `engine.Lane`) whose submits and fills are ranges."""

    def __init__(self, lane: Lane, ranges: Ranges, name: str) -> None:
        self._lane = lane
        self._ranges = ranges
        self._name = name

    def acquire(self) -> BufferSet | None:
        """As the lane."""
        return self._lane.acquire()

    def submit(self, buffers: BufferSet, fill: Fill, tag: object, on_read: OnRead = lambda: None) -> None:
        """As the lane, in ranges `NAME submit` and, on the thread that fills, `NAME fill`."""

        def ranged(own: BufferSet) -> None:
            with self._ranges(f"{self._name} fill"):
                fill(own)

        with self._ranges(f"{self._name} submit"):
            self._lane.submit(buffers, ranged, tag, on_read)

    def poll(self) -> list[Completed]:
        """As the lane; no range: it is asked thousands of times."""
        return self._lane.poll()

    def look_ns(self, now_ns: int) -> int | None:
        """As the lane."""
        return self._lane.look_ns(now_ns)

    def batch_sizes(self) -> tuple[int, ...]:
        """Return the sizes at which batches run."""
        return self._lane.batch_sizes()

    def release(self, buffers: BufferSet) -> None:
        """As the lane."""
        self._lane.release(buffers)

    def graph_counts(self) -> GraphCounts:
        """As the lane."""
        return self._lane.graph_counts()

    def close(self) -> None:
        """As the lane."""
        self._lane.close()
