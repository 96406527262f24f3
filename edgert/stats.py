"""Counters, latency windows and live-instance counts, readable from any thread while they run."""

from __future__ import annotations

import array
import threading
from pathlib import Path
from typing import ClassVar

import msgspec


class Tally:
    """Counts by name (drop reasons, copy kinds). Any thread may add."""

    __slots__ = ("_counts", "_lock")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def add(self, name: str, amount: int = 1) -> None:
        """Add `amount` to `name`."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + amount

    def __getitem__(self, name: str) -> int:
        return self._counts.get(name, 0)

    def total(self) -> int:
        """Return the sum over all names."""
        return sum(self.snapshot().values())

    def snapshot(self) -> dict[str, int]:
        """Return a copy of the counts."""
        with self._lock:
            return dict(self._counts)


class LatencySummary(msgspec.Struct, frozen=True):
    """Milliseconds. Percentiles are of the newest `Latency.WINDOW` samples, the rest is of all."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    sum_ms: float


class Latency:
    """Durations in nanoseconds. One thread adds; any thread may ask for the summary."""

    __slots__ = ("_max_ns", "_ring", "_sum_ns", "_written")
    WINDOW: ClassVar[int] = 4096

    def __init__(self) -> None:
        self._ring = array.array("q", bytes(8 * self.WINDOW))
        self._written = 0
        self._max_ns = 0
        self._sum_ns = 0

    def add(self, duration_ns: int) -> None:
        """Record one duration."""
        self._ring[self._written % self.WINDOW] = duration_ns
        self._written += 1
        self._sum_ns += duration_ns
        self._max_ns = max(self._max_ns, duration_ns)

    def summary(self) -> LatencySummary:
        """Return count, percentiles (nearest rank) and maximum; zeros before the first sample."""
        kept = sorted(self._ring[: min(self._written, self.WINDOW)])
        if not kept:
            return LatencySummary(0, 0.0, 0.0, 0.0, 0.0)
        ranks = (kept[int(q * (len(kept) - 1) + 0.5)] for q in (0.50, 0.99))
        p50, p99 = (round(ns / 1e6, 3) for ns in ranks)
        most, total = (round(ns / 1e6, 3) for ns in (self._max_ns, self._sum_ns))
        return LatencySummary(self._written, p50, p99, most, total)


class CopyCounts:
    """Copies of pixels or tensors and their bytes, by kind.

    `host_to_host`, `host_to_device`, `device_to_host`, `device_to_device` (from model to model), ...
    """

    __slots__ = ("bytes", "copies")

    def __init__(self) -> None:
        self.copies = Tally()
        self.bytes = Tally()

    def add(self, kind: str, size_bytes: int, copies: int = 1) -> None:
        """Count `copies` copies of `size_bytes` in all."""
        self.copies.add(kind, copies)
        self.bytes.add(kind, size_bytes)


class LiveCount:
    """How many instances of a resource are open. Tests demand zero at their end."""

    registered: ClassVar[dict[str, LiveCount]] = {}

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._lock = threading.Lock()
        self.registered[name] = self

    def opened(self) -> None:
        """Count one more."""
        with self._lock:
            self.count += 1

    def closed(self) -> None:
        """Count one less."""
        with self._lock:
            self.count -= 1

    @classmethod
    def snapshot(cls) -> dict[str, int]:
        """Return the open instances by resource name, zeros left out."""
        return {name: live.count for name, live in cls.registered.items() if live.count}


def proportional_set_bytes(pid: int | None = None) -> int:
    """Return the PSS of a process (this one by default); 0 where the kernel does not say."""
    try:
        text = Path(f"/proc/{pid or 'self'}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024


def stage_cpu_s() -> dict[str, float]:
    """Return the CPU seconds of this process's threads, summed by stage: a thread's name up to `:`."""
    seconds: dict[str, float] = {}
    for thread in threading.enumerate():
        stage = thread.name.partition(":")[0]
        try:
            on_cpu_ns = int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0])
        except OSError:  # the thread has just ended, or the kernel keeps no such count
            continue
        seconds[stage] = round(seconds.get(stage, 0.0) + on_cpu_ns / 1e9, 6)
    return seconds
