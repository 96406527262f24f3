"""The newest durations of a version, and how they are spread. Whoever adds takes care of threads."""

from __future__ import annotations

import struct
from bisect import bisect_left

import numpy as np

from edgert.serve.sampled import QUANTILES, HistogramCounts

FIRST_RESPONSE_BOUNDS_MS = (100, 500, 2000, 5000)  # the Inference Server's
_NS_PER_MS = 1_000_000


class Window:
    """Rows of nanoseconds, the newest `SIZE` of them."""

    __slots__ = ("_names", "_ring", "_row", "_written")
    SIZE = 1024

    def __init__(self, *names: str) -> None:
        """`names` are those of the columns."""
        self._names = names
        self._row = struct.Struct(f"{len(names)}q")
        self._ring = bytearray(self._row.size * self.SIZE)
        self._written = 0

    def add(self, *durations_ns: int) -> None:
        """Keep a row."""
        self._row.pack_into(self._ring, self._written % self.SIZE * self._row.size, *durations_ns)
        self._written += 1

    def quantiles_ns(self) -> dict[str, tuple[int, ...]]:
        """Return each column at the `QUANTILES`, by nearest rank; nothing before the first row."""
        kept = min(self._written, self.SIZE)
        if not kept:
            return {}
        rows = np.frombuffer(bytes(self._ring), np.int64).reshape(self.SIZE, -1)[:kept]
        ranks = [int(quantile * (kept - 1) + 0.5) for quantile in QUANTILES]
        at_ranks = np.sort(rows, axis=0)[ranks]
        return {name: tuple(at_ranks[:, column].tolist()) for column, name in enumerate(self._names)}


class Summaries:
    """What the summaries are made of: a write of 40 bytes for each request."""

    def __init__(self) -> None:
        self.requests = Window("success")  # those that the cache answered too
        self.batches = Window("queue", "compute_input", "compute_infer", "compute_output")
        self.hits = Window("cache_hit")
        self.misses = Window("cache_miss")

    def quantiles_ns(self) -> dict[str, tuple[int, ...]]:
        """Return all durations at the `QUANTILES`, by field of InferStatistics."""
        windows = (self.requests, self.batches, self.hits, self.misses)
        return {name: quantiles for window in windows for name, quantiles in window.quantiles_ns().items()}


class Histogram:
    """Durations counted by bucket since the start."""

    def __init__(self, bounds_ms: tuple[int, ...] = FIRST_RESPONSE_BOUNDS_MS) -> None:
        self._bounds_ms = bounds_ms
        self._bounds_ns = [bound * _NS_PER_MS for bound in bounds_ms]
        self._counts = [0] * (len(bounds_ms) + 1)
        self._sum_ns = 0

    def add(self, duration_ns: int) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds_ns, duration_ns)] += 1
        self._sum_ns += duration_ns

    def counts(self) -> HistogramCounts:
        """Return what was counted, in milliseconds."""
        return HistogramCounts(self._bounds_ms, tuple(self._counts), self._sum_ns / _NS_PER_MS)
