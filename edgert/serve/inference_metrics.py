"""What models have done for clients and for cameras, as the Inference Server's metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from operator import attrgetter
from typing import Any, Literal, Protocol

import msgspec

from edgert.errors import UnavailableError, UnknownModelError
from edgert.models.model_config import ModelConfig
from edgert.serve import metric_table as table
from edgert.serve.core import Duration, InferenceCore, InferStatistics, ModelStatistics
from edgert.serve.family import Family, Labels
from edgert.serve.metric_table import Row
from edgert.serve.sampled import QUANTILES, HistogramCounts, SampledStatistics

REASONS = ("REJECTED", "CANCELED", "BACKEND", "OTHER")  # why requests fail; each is always there
_PARTS = {"prepare": "compute_input", "execute": "compute_infer", "decode": "compute_output"}
_NOT_IN_LABELS = re.compile(r"[^a-zA-Z0-9_]")
_NS_PER_MS = 1_000_000
_NS_PER_US = 1000


class CacheCounts(Protocol):
    """What the response cache holds and has done; it has the fields of `CACHE_GAUGES` too."""

    @property
    def used_bytes(self) -> int:
        """Bytes that answers take."""

    @property
    def max_bytes(self) -> int:
        """Bytes that they may take."""


class Served(msgspec.Struct, frozen=True):
    """What a process with `[serve]` has done."""

    statistics: list[ModelStatistics] = []
    configs: dict[tuple[str, str], ModelConfig] = {}  # by model and version
    cache: CacheCounts | None = None  # None: there is none
    refused: dict[str, dict[str, int]] = {}  # by front and reason


class Version(msgspec.Struct, frozen=True):
    """A version of a model, whoever used it."""

    labels: Labels
    parts: list[ModelStatistics]  # for cameras and for clients
    config: ModelConfig | None  # None: only cameras use it

    def total(self, row: Row) -> int:
        """Return the sum of a field."""
        value = attrgetter(row.field)
        return int(sum(value(part) for part in self.parts) // row.unit)

    @property
    def sampled(self) -> SampledStatistics | None:
        """What has the newest durations; None where nobody asked for them."""
        return next((part for part in self.parts if isinstance(part, SampledStatistics)), None)


def look(
    core: InferenceCore, cache: CacheCounts | None = None, refused: Mapping[str, dict[str, int]] = {}
) -> Served:
    """Return what a core, its response cache and its fronts have done."""
    statistics = core.statistics()
    configs = {}
    for of_one in statistics:
        try:
            configs[of_one.name, of_one.version] = core.model_config(of_one.name, int(of_one.version))
        except (UnknownModelError, UnavailableError):  # unloaded, or being loaded, just now
            continue
    return Served(statistics, configs, cache, dict(refused))


def frame_statistics(report: dict[str, Any]) -> Iterator[ModelStatistics]:
    """Return what the models of a report have done for cameras: a frame is a request."""
    for name, model in report["models"].items():
        for version in model["versions"]:
            answered, failed = version["frames"] - version["failed"], version["failed"]
            times_ms = {field: version["frame_times"][f"{part}_ms"] for part, field in _PARTS.items()}
            times_ms["queue"] = version["queue"]["sum_ms"]
            times = {field: Duration(answered, round(ms * _NS_PER_MS)) for field, ms in times_ms.items()}
            whole = Duration(answered, sum(time.ns for time in times.values()))
            yield ModelStatistics(
                name,
                str(version["version"]),
                inference_count=answered,
                execution_count=version["batches"],
                inference_stats=InferStatistics(success=whole, **times),
                failures={"BACKEND": failed},
            )


def inference_families(frames: Iterable[ModelStatistics], served: Served | None) -> Iterator[Family]:
    """Return all families that begin with `nv_inference_` and `nv_cache_`."""
    versions = _versions(frames, served)
    yield _counter(table.SUCCESS, versions)
    yield _failures(versions)
    yield from (_counter(row, versions) for row in table.COUNTERS)
    if served is None:
        return
    clients = _versions((), served)
    yield _counter(table.PENDING, clients, "gauge")
    cached = [version for version in clients if version.config and version.config.uses_response_cache]
    yield from _summaries(table.SUMMARIES, clients)
    yield from _first_responses(clients)
    if served.cache is not None:
        yield from (_counter(row, cached) for row in table.CACHE_COUNTERS)
        yield from _summaries(table.CACHE_SUMMARIES, cached)
        yield from _cache(served.cache)


def _versions(frames: Iterable[ModelStatistics], served: Served | None) -> list[Version]:
    """Return versions with what they did for cameras and clients together."""
    served = served or Served()
    parts: dict[tuple[str, str], list[ModelStatistics]] = {}
    for statistics in (*frames, *served.statistics):
        parts.setdefault((statistics.name, statistics.version), []).append(statistics)
    configs = served.configs
    return [
        Version(_labels(*key, configs.get(key)), of_one, configs.get(key)) for key, of_one in parts.items()
    ]


def _labels(model: str, version: str, config: ModelConfig | None) -> Labels:
    tags = config.metric_tags if config else {}
    own = {f"_{_NOT_IN_LABELS.sub('_', tag)}": value for tag, value in tags.items()}
    return {**own, "model": model, "version": version}


def _counter(row: Row, versions: Iterable[Version], kind: Literal["counter", "gauge"] = "counter") -> Family:
    family = Family(row.name, kind, row.help)
    for version in versions:
        family.add(version.labels, version.total(row))
    return family


def _failures(versions: Iterable[Version]) -> Family:
    family = Family(table.FAILURE.name, "counter", table.FAILURE.help)
    for version in versions:
        for reason in REASONS:
            count = sum(part.failures.get(reason, 0) for part in version.parts)
            family.add({**version.labels, "reason": reason}, count)
    return family


def _summaries(rows: Iterable[Row], versions: Iterable[Version]) -> Iterator[Family]:
    sampled = [(version.labels, version.sampled) for version in versions]
    for row in rows:
        family = Family(row.name, "summary", row.help)
        for labels, statistics in sampled:
            if statistics is not None and statistics.quantiles_ns is not None:
                found = statistics.quantiles_ns.get(row.field, ())
                _add_summary(family, labels, getattr(statistics.inference_stats, row.field), found)
        if family.samples:
            yield family


def _add_summary(family: Family, labels: Labels, whole: Duration, found: tuple[int, ...]) -> None:
    family.add(labels, whole.count, "_count")
    family.add(labels, whole.ns // _NS_PER_US, "_sum")
    values: list[float] = [ns // _NS_PER_US for ns in found] or [math.nan] * len(QUANTILES)
    for quantile, value in zip(QUANTILES, values, strict=True):
        family.add({**labels, "quantile": str(quantile)}, value)


def _first_responses(versions: Iterable[Version]) -> Iterator[Family]:
    family = Family(table.FIRST_RESPONSE.name, "histogram", table.FIRST_RESPONSE.help)
    for version in versions:
        counted = version.sampled.first_response_ms if version.sampled else None
        if counted is not None and version.config and version.config.is_decoupled:
            _add_histogram(family, version.labels, counted)
    if family.samples:
        yield family


def _add_histogram(family: Family, labels: Labels, counted: HistogramCounts) -> None:
    for bound, count in zip((*map(str, counted.bounds), "+Inf"), accumulate(counted.counts), strict=True):
        family.add({**labels, "le": bound}, count, "_bucket")
    family.add(labels, sum(counted.counts), "_count")
    family.add(labels, counted.sum, "_sum")


def _cache(cache: CacheCounts) -> Iterator[Family]:
    use = Family(table.CACHE_USE.name, "gauge", table.CACHE_USE.help)
    use.add({}, cache.used_bytes / cache.max_bytes if cache.max_bytes else 0.0)
    yield use
    for row in table.CACHE_GAUGES:
        family = Family(row.name, "gauge", row.help)
        family.add({}, getattr(cache, row.field) // row.unit)
        yield family
