"""Puts together the report of what all stages have found."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

from edgert import __version__
from edgert.calibrate.choose import Choice
from edgert.calibrate.compare.held_out import HeldOut
from edgert.calibrate.compare.limits import AccuracyLimits, problems_of
from edgert.calibrate.observe.histogram import Histogram
from edgert.calibrate.observe.observation import Observation
from edgert.calibrate.observe.thresholds import AMAX_MIN, quantization_error
from edgert.calibrate.quantize.layers import weighted_layers
from edgert.calibrate.quantize.placement import Placement
from edgert.calibrate.report.drawing import outline_of
from edgert.calibrate.report.report import (
    CalibrationReport,
    FrameDifference,
    LayerReport,
    ModelCost,
    SampleCounts,
    StageTime,
    TensorReport,
    verdict_on,
)
from edgert.calibrate.report.thumbnail import OPENCV_VERSION
from edgert.calibrate.sample.sample_set import SampleSet
from edgert.calibrate.setting import Setting
from edgert.models.manifest import SourceModel

TOOLS = (  # another version may come to another result
    __version__,
    onnxruntime.__version__,
    importlib.metadata.version("onnx"),
    np.__version__,
    OPENCV_VERSION,
)

ADVISED_HELD_OUT = 50  # frames that limits are judged by


class Findings(msgspec.Struct, frozen=True):
    """What the stages found before the comparison."""

    samples: SampleSet
    observation: Observation
    choice: Choice
    placement: Placement
    int8_model: Path
    stages: Sequence[StageTime]


def summarise(setting: Setting, found: Findings, held_out: HeldOut) -> CalibrationReport:
    """Return the report."""
    file, limits = setting.model.file, setting.recipe.options.limits
    problems = problems_of(limits, held_out.figures) if held_out.figures else _unmeasured(limits)
    samples = found.samples
    return CalibrationReport(
        model=setting.recipe.name,
        source=SourceModel(file.path.name, file.sha256),
        made_utc=datetime.datetime.now(datetime.timezone.utc),
        edgert=TOOLS[0],
        onnxruntime=TOOLS[1],
        seed=samples.seed,
        samples=_counts(samples, held_out),
        verdict=verdict_on(limits, problems),
        problems=problems,
        notes=(*samples.warnings, *found.choice.notes, *held_out.notes, *_few(limits, samples)),
        limits=limits,
        method=found.choice.method,
        methods=found.choice.tried,
        figures=held_out.figures,
        reference=_cost(file.model.ByteSize(), held_out.reference_ms),
        candidate=_cost(found.int8_model.stat().st_size, held_out.candidate_ms),
        tensors=tuple(_tensors(found)),
        layers=tuple(_layers(setting, found)),
        changed=tuple(FrameDifference(each.file, each.difference) for each in held_out.changed),
        stages=tuple(found.stages),
        peak_rss_bytes=_peak_rss_bytes(),
    )


def _counts(samples: SampleSet, held_out: HeldOut) -> SampleCounts:
    return SampleCounts(
        calibration=len(samples.calibration),
        selection=len(samples.selection),
        held_out=len(samples.held_out),
        labelled=held_out.labelled,
        offered=samples.offered,
    )


def _few(limits: AccuracyLimits, samples: SampleSet) -> tuple[str, ...]:
    held_out = len(samples.held_out)
    if not limits.are_set or not 0 < held_out < ADVISED_HELD_OUT:
        return ()
    return (f"The limits were judged by {held_out} frames; at least {ADVISED_HELD_OUT} are advised",)


def _unmeasured(limits: AccuracyLimits) -> tuple[str, ...]:
    return ("there are limits, and no frame was held out to measure with",) if limits.are_set else ()


def _cost(size_bytes: int, run_ms: Sequence[float]) -> ModelCost:
    p50_ms, p99_ms = map(float, np.percentile(run_ms, (50, 99))) if run_ms else (None, None)
    return ModelCost(
        size_bytes=size_bytes,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        runtime="onnxruntime",
        device="host",
        arithmetic="float",
    )


def _tensors(found: Findings) -> Iterator[TensorReport]:
    for name in found.placement.tensors:
        yield _tensor(name, found.observation.histograms[name], found.choice)


def _tensor(name: str, histogram: Histogram, choice: Choice) -> TensorReport:
    amax = choice.amax[name]
    sqnr_db, saturated = quantization_error(histogram, amax)
    counts = histogram.counts[: histogram.used].copy()
    return TensorReport(
        name=name,
        amax=amax,
        method=choice.method,
        low=histogram.low,
        high=histogram.high,
        observed_amax=histogram.amax,
        sqnr_db=sqnr_db if np.isfinite(sqnr_db) else None,
        saturated_share=saturated,
        zeros_share=histogram.zeros / histogram.count,
        is_dead=histogram.amax <= AMAX_MIN,
        histogram=outline_of(counts, histogram.bin_width, amax),
    )


def _layers(setting: Setting, found: Findings) -> Iterator[LayerReport]:
    choice, quantized = found.choice, set(found.placement.layers)
    for layer in weighted_layers(setting.model.graph()):
        reason = choice.kept.get(layer.name, "" if layer.name in quantized else "no range")
        yield LayerReport(
            name=layer.name,
            type=layer.operator,
            error=choice.errors.get(layer.name),
            is_kept=layer.name not in quantized,
            reason=reason,
        )


def _peak_rss_bytes() -> int | None:
    """Return what this process took at most; getrusage tells of the one that started it too."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) << 10
    return None
