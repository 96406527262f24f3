"""The report's few figures that stay beside the version in the store, for `edgert inspect`."""

from __future__ import annotations

from pathlib import Path

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.report.report import CalibrationReport
from edgert.models.calibration_record import CalibrationRecord
from edgert.models.manifest import sha256_of

MEASURED = "the Q/DQ model in float arithmetic, onnxruntime, host"
_FIGURES = (
    "top1_agreement",
    "recall",
    "precision",
    "score_error",
    "cosine_mean",
    "cosine_min",
    "accuracy_drop",
    "map_drop",
)
_DIGITS = 6


def record_of(report: CalibrationReport, file: Path) -> CalibrationRecord:
    """Return the record of a file that was made of the model in the report. Raises ModelError."""
    return CalibrationRecord(
        sha256=sha256_of(file),
        source=report.source,
        made_utc=report.made_utc,
        edgert=report.edgert,
        method=report.method,
        layers_int8=sum(not layer.is_kept for layer in report.layers),
        layers_float=tuple(layer.name for layer in report.layers if layer.is_kept),
        verdict=report.verdict,
        held_out_frames=report.samples.held_out,
        against_fp32=_figures(report.figures) if report.figures else {},
        measured=MEASURED,
    )


def _figures(figures: ComparisonFigures) -> dict[str, float]:
    found = ((name, getattr(figures, name)) for name in _FIGURES)
    return {name: round(value, _DIGITS) for name, value in found if value is not None}
