"""What was measured, by the definitions of trtexec (samples/common/sampleReporting.cpp of NVIDIA/TensorRT).

A request is one batch. Latency is the sum of its copies to the device, its computing and its copies back;
throughput is the requests by the time from the start of the first to the end of the last. Response is
perf_client's: from when the request came to when it was answered, so that waiting counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from edgert.perf.options import Level

ENQUEUE_SHARE = 0.8  # of the compute time, from which on the host may be what bounds throughput
UNSTABLE_VARIATION = 0.025


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One request that was answered."""

    arrived_ns: int
    started_ns: int  # a lane took it
    finished_ns: int
    enqueue_ms: float  # the submitting thread's time
    fill_ms: float  # copies to the device; on the host, writing the inputs
    compute_ms: float
    fetch_ms: float  # copies from the device

    @property
    def latency_ms(self) -> float:
        """What trtexec calls latency."""
        return self.fill_ms + self.compute_ms + self.fetch_ms

    @property
    def response_ms(self) -> float:
        """What whoever asked has waited."""
        return (self.finished_ns - self.arrived_ns) / 1e6


class Spread(msgspec.Struct, frozen=True):
    """How a time is spread over requests. `variation` is the standard deviation by the mean."""

    min_ms: float
    max_ms: float
    mean_ms: float
    median_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    variation: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One level's result. `items_per_s` is `throughput_per_s` by the batch size."""

    level: Level
    batch: int
    requests: int
    unserved: int  # still waited at the end; they count in `response` with what they had waited by then
    throughput_per_s: float
    items_per_s: float
    response: Spread
    latency: Spread
    enqueue: Spread
    fill: Spread
    compute: Spread
    fetch: Spread
    wall_s: float
    compute_s: float  # summed over all requests
    is_over_limit: bool = False


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Return trtexec's percentile, which is never between two values.

    It computes in single precision, and so does this: of 100 values the 99th percentile is the largest.
    """
    count = len(ascending)
    share = np.float32(1) - np.float32(percent) / np.float32(100)
    return ascending[max(count - 1 - int(share * np.float32(count)), 0)]


def median(ascending: Sequence[float]) -> float:
    """Return the middle value, or the mean of the middle two."""
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2


def spread_of(times_ms: Iterable[float]) -> Spread:
    """Return how at least one time is spread."""
    ascending = sorted(times_ms)
    mean = sum(ascending) / len(ascending)
    variance = sum((each - mean) ** 2 for each in ascending) / len(ascending)
    return Spread(
        min_ms=round(ascending[0], 6),
        max_ms=round(ascending[-1], 6),
        mean_ms=round(mean, 6),
        median_ms=round(median(ascending), 6),
        p90_ms=round(percentile(ascending, 90), 6),
        p95_ms=round(percentile(ascending, 95), 6),
        p99_ms=round(percentile(ascending, 99), 6),
        variation=round(variance**0.5 / mean, 6) if mean else 0.0,
    )


def figures_of(
    level: Level, batch: int, samples: Sequence[Sample], unserved_ms: Sequence[float] = ()
) -> Figures:
    """Return what at least one request amounts to; `unserved_ms` is how long others had waited in vain."""
    wall_s = (max(each.finished_ns for each in samples) - min(each.started_ns for each in samples)) / 1e9
    throughput = len(samples) / wall_s if wall_s > 0 else 0.0
    return Figures(
        level=level,
        batch=batch,
        requests=len(samples),
        unserved=len(unserved_ms),
        throughput_per_s=round(throughput, 3),
        items_per_s=round(throughput * batch, 3),
        response=spread_of([*(each.response_ms for each in samples), *unserved_ms]),
        latency=spread_of(each.latency_ms for each in samples),
        enqueue=spread_of(each.enqueue_ms for each in samples),
        fill=spread_of(each.fill_ms for each in samples),
        compute=spread_of(each.compute_ms for each in samples),
        fetch=spread_of(each.fetch_ms for each in samples),
        wall_s=round(wall_s, 6),
        compute_s=round(sum(each.compute_ms for each in samples) / 1e3, 6),
    )


def warnings_of(figures: Figures, *, is_device: bool, lanes: int) -> Iterator[str]:
    """Yield what may keep the figures from saying how fast the engine is."""
    if is_device:
        yield from _device_warnings(figures)
    if figures.compute.variation > UNSTABLE_VARIATION:
        yield (
            f"the compute time varies by {figures.compute.variation:.1%} of its mean, so the figures are not "
            "stable: fix the clocks, stop other work, or measure longer"
        )
    if lanes > 1:
        yield (
            f"the {lanes} lanes share the machine, so a single batch's times include its waiting for the "
            "others: compare throughput and response"
        )
    if figures.unserved:
        yield unserved_warning(figures)


def unserved_warning(figures: Figures) -> str:
    """Return what it means that requests still waited at the end."""
    return (
        f"at {figures.level.title} requests come faster than they are answered: {figures.unserved} still "
        "waited at the end, so the response times are lower bounds"
    )


def _device_warnings(figures: Figures) -> Iterator[str]:
    compute_ms = figures.compute.median_ms
    if figures.enqueue.median_ms > ENQUEUE_SHARE * compute_ms:
        yield "throughput may be bound by the enqueue time, not by the GPU: use --graphs, or more lanes"
    if figures.fill.median_ms >= compute_ms:
        yield "throughput may be bound by the copies of inputs to the device, not by computing"
    if figures.fetch.median_ms >= compute_ms:
        yield "throughput may be bound by the copies of outputs from the device, not by computing"
