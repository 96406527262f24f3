"""Everything that one calibration found, as it is written in JSON."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.limits import AccuracyLimits
from edgert.calibrate.report.drawing import Outline
from edgert.errors import ConfigError
from edgert.models.manifest import SourceModel

Verdict = Literal["within limits", "over limits", "no limits"]


class SampleCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Frames, by what they were for."""

    calibration: int
    selection: int
    held_out: int
    labelled: int = 0  # of those held out
    offered: int | None = None  # that the samples were chosen from


class TensorReport(msgspec.Struct, frozen=True, kw_only=True):
    """One quantized tensor: what was seen of it, and what became of it. Shares are 0..1."""

    name: str
    amax: float  # the magnitude that becomes 127
    method: str  # that chose it
    low: float
    high: float
    observed_amax: float
    sqnr_db: float | None = None  # signal by quantization noise; None: there is no noise, or no signal
    saturated_share: float = 0.0
    zeros_share: float = 0.0
    is_dead: bool = False  # it never changed
    histogram: Outline | None = None


class MethodReport(msgspec.Struct, frozen=True, kw_only=True):
    """One way to choose thresholds, tried on the selection frames."""

    method: str
    agreement: float  # ComparisonFigures.agreement
    is_chosen: bool = False
    figures: ComparisonFigures | None = None


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One layer. `error` is that of the outputs when it alone is INT8; see `sensitivity.weighted_error`."""

    name: str
    type: str
    error: float | None = None  # None: it was not measured
    is_kept: bool = False  # in float, which is FP32
    reason: str = ""  # why


class ModelCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one model takes."""

    size_bytes: int
    p50_ms: float | None = None
    p99_ms: float | None = None
    runtime: str = ""  # where it was timed, which is not where the built engine runs
    device: str = ""
    arithmetic: str = ""  # of INT8's Q and DQ there


class StageTime(msgspec.Struct, frozen=True):
    """How long one stage of the calibration took."""

    name: str
    seconds: float


class FrameDifference(msgspec.Struct, frozen=True):
    """How much one held-out frame's answer has changed; 0: not at all."""

    file: str
    difference: float


class Delivered(msgspec.Struct, frozen=True):
    """A version that is in the store."""

    model: str
    version: int
    file: str
    size_bytes: int
    notes: tuple[str, ...] = ()


class CalibrationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result. `reference` is FP32, `candidate` is INT8; both are compared on held-out frames."""

    schema: Literal["edgert.calibration/1"] = "edgert.calibration/1"
    model: str
    source: SourceModel
    made_utc: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    edgert: str  # versions
    onnxruntime: str = ""
    seed: int
    samples: SampleCounts
    verdict: Verdict
    problems: tuple[str, ...] = ()  # what is over a limit
    notes: tuple[str, ...] = ()
    limits: AccuracyLimits = AccuracyLimits()
    method: str  # the chosen one
    methods: tuple[MethodReport, ...] = ()
    figures: ComparisonFigures | None = None
    reference: ModelCost | None = None
    candidate: ModelCost | None = None
    tensors: tuple[TensorReport, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    changed: tuple[FrameDifference, ...] = ()  # the most first
    stages: tuple[StageTime, ...] = ()
    peak_rss_bytes: int | None = None
    delivered: Delivered | None = None  # None: nothing was, or it was not to be

    @property
    def worst_tensors(self) -> list[TensorReport]:
        """All tensors, the least SQNR first; those without noise last."""
        return sorted(self.tensors, key=lambda each: (each.sqnr_db is None, each.sqnr_db or 0.0))

    @property
    def sensitive_layers(self) -> list[LayerReport]:
        """All layers, the most sensitive first."""
        return sorted(self.layers, key=lambda layer: -(layer.error or 0.0))


def verdict_on(limits: AccuracyLimits, problems: Sequence[str]) -> Verdict:
    """Return the verdict: a problem is one even where no limit is set."""
    if problems:
        return "over limits"
    return "within limits" if limits.are_set else "no limits"


def report_json(report: CalibrationReport) -> bytes:
    """Return the report as JSON that a person can read too."""
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def read_report(path: Path) -> CalibrationReport:
    """Return a report that `report_json` wrote. Raises ConfigError if the file is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=CalibrationReport)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not a calibration report that edgert knows: {error}") from error
