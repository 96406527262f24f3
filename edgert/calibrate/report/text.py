"""The report as the short text that the command prints, and its figures as texts."""

from __future__ import annotations

from collections.abc import Iterator

from edgert.calibrate.compare.average_precision import PrecisionFigures
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.metrics import ClassFigures, DetectionFigures, TensorFigures
from edgert.calibrate.report.report import CalibrationReport, LayerReport, ModelCost, SampleCounts

Row = tuple[str, str]

HOST_COST = "the host's onnxruntime, Q/DQ in float arithmetic: not the built engine's"
_NAMED = 5  # tensors and layers


def report_lines(report: CalibrationReport) -> list[str]:
    """Return the report's lines."""
    lines = [f"{report.model}: INT8 by {report.method}, {report.verdict}"]
    lines += [f"  PROBLEM: {problem}" for problem in report.problems]
    lines += [f"  {title}: {text}" for title, text in _rows(report)]
    return lines + [f"  note: {note}" for note in report.notes]


def figure_rows(figures: ComparisonFigures) -> Iterator[Row]:
    """Yield what was compared, each with its title."""
    if figures.classes:
        yield from _class_rows(figures.classes)
    if figures.detections:
        yield from _detection_rows(figures.detections)
    if figures.reference_map and figures.candidate_map:
        yield from _map_rows(figures.reference_map, figures.candidate_map)
    yield from map(_tensor_row, figures.tensors)


def cost_rows(reference: ModelCost | None, candidate: ModelCost | None) -> Iterator[Row]:
    """Yield sizes and times of both."""
    if reference is None or candidate is None:
        return
    yield "size", _both("{:.2f} MB", reference.size_bytes / 1e6, candidate.size_bytes / 1e6)
    for title, old, new in (
        ("latency p50", reference.p50_ms, candidate.p50_ms),
        ("latency p99", reference.p99_ms, candidate.p99_ms),
    ):
        if old is not None and new is not None:
            where = f", on {HOST_COST}" if candidate.device == "host" else ""
            yield title, _both("{:.3f} ms", old, new) + where


def sample_text(samples: SampleCounts) -> str:
    """Return how many frames there were for what."""
    offered = "" if samples.offered is None else f" of {samples.offered:,} offered"
    return (
        f"{samples.calibration:,} for calibration, {samples.selection:,} for selection, "
        f"{samples.held_out:,} held out ({samples.labelled:,} labelled){offered}"
    )


def share_text(value: float | None) -> str:
    """Return a figure between 0 and 1."""
    return "none" if value is None else f"{value:.4f}"


def decibel_text(value: float | None) -> str:
    """Return a ratio; there is none without noise."""
    return "none" if value is None else f"{value:.1f}"


def _rows(report: CalibrationReport) -> Iterator[Row]:
    yield "samples", sample_text(report.samples)
    if report.figures:
        yield from figure_rows(report.figures)
    yield from cost_rows(report.reference, report.candidate)
    if report.methods:
        tried = (f"{each.method} {share_text(each.agreement)}" for each in report.methods)
        yield "methods tried", ", ".join(tried)
    noisy = [each for each in report.worst_tensors if each.sqnr_db is not None][:_NAMED]
    if noisy:
        yield "least SQNR", ", ".join(f"{each.name} {decibel_text(each.sqnr_db)} dB" for each in noisy)
    kept = [layer for layer in report.sensitive_layers if layer.is_kept]
    if kept:
        yield f"kept in FP32 ({len(kept)})", f"{_names(kept)}; so too in a strongly typed engine"
    if report.stages:
        yield "times", ", ".join(f"{stage.name} {stage.seconds:.1f} s" for stage in report.stages)
    if report.peak_rss_bytes is not None:
        yield "peak memory", f"{report.peak_rss_bytes / 1e6:,.0f} MB"


def _names(layers: list[LayerReport]) -> str:
    named = ", ".join(layer.name for layer in layers[:_NAMED])
    return named if len(layers) <= _NAMED else f"{named} and {len(layers) - _NAMED} more"


def _class_rows(classes: ClassFigures) -> Iterator[Row]:
    yield "same top-1", f"{share_text(classes.top1_agreement)} of {classes.frames:,} frames"
    yield "top-5 overlap", share_text(classes.top5_overlap)
    if classes.labelled:
        labelled = f"of {classes.labelled:,} labelled frames"
        yield "top-1 accuracy", f"{_pair(classes.reference_top1, classes.candidate_top1)} {labelled}"
        yield "top-5 accuracy", f"{_pair(classes.reference_top5, classes.candidate_top5)} {labelled}"


def _detection_rows(detections: DetectionFigures) -> Iterator[Row]:
    least = "" if detections.score_min is None else f" of score {detections.score_min:g} or more"
    for title, share, whose, count, below in (
        ("recall", detections.recall, "FP32", detections.reference_count, detections.lost_below),
        ("precision", detections.precision, "INT8", detections.candidate_count, detections.new_below),
    ):
        crossed = _crossed(count - detections.matched, below, "INT8" if whose == "FP32" else "FP32")
        yield title, f"{share_text(share)} of {whose}'s {count:,} detections{least}{crossed}"
    yield "score error", f"{share_text(detections.score_error)} mean"
    yield "overlap (IoU)", f"{share_text(detections.iou)} mean"


def _crossed(missing: int, below: int | None, other: str) -> str:
    """Say how many count as not found though the other side has them, with a lower score than counts."""
    if not missing:
        return ""
    if below is None:
        return f"; {other} has not {missing:,}, some perhaps only as its score is below that"
    return f"; {other} has not {missing:,}, {below:,} of them only as its score is below that"


def _map_rows(reference: PrecisionFigures, candidate: PrecisionFigures) -> Iterator[Row]:
    labelled = f"of {candidate.frames:,} labelled frames"
    yield "mAP 0.5:0.95", f"{_pair(reference.map, candidate.map)} {labelled}"
    yield "mAP 0.5", f"{_pair(reference.map_50, candidate.map_50)} {labelled}"


def _tensor_row(tensor: TensorFigures) -> Row:
    text = f"mean {tensor.cosine_mean:.5f}, least {tensor.cosine_min:.5f}"
    if tensor.relative_error_max is not None:
        text += f", largest error {tensor.relative_error_max:.2%}"
    if tensor.not_finite:
        text += f", NOT finite in {tensor.not_finite:,} of {tensor.frames:,} frames"
    return f"cosine of {tensor.name}", text


def _pair(reference: float | None, candidate: float | None) -> str:
    return f"FP32 {share_text(reference)}, INT8 {share_text(candidate)}"


def _both(shown: str, reference: float, candidate: float) -> str:
    ratio = f" ({candidate / reference:.2f} of it)" if reference else ""
    return f"FP32 {shown.format(reference)}, INT8 {shown.format(candidate)}{ratio}"
