"""The report as one HTML page that needs nothing beside it: no script, no font, no other file."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from edgert.calibrate.compare.changed import MAX_FRAMES
from edgert.calibrate.report.drawing import histogram_svg
from edgert.calibrate.report.pictures import ChangedPicture, picture_html
from edgert.calibrate.report.report import CalibrationReport, LayerReport, TensorReport, Verdict
from edgert.calibrate.report.style import STYLE
from edgert.calibrate.report.terms import LAYERS, METHODS, TENSORS, term_lines, term_of
from edgert.calibrate.report.text import Row, cost_rows, decibel_text, figure_rows, sample_text, share_text
from edgert.frames.result import Detections

# Bound the page to some megabytes, whatever the model.
MAX_TENSORS = 500
MAX_LAYERS = 200
MAX_NAME = 200

_TENSOR_HEADER = (
    "tensor",
    "SQNR dB",
    "threshold",
    "chosen by",
    "least",
    "greatest",
    "saturated",
    "zeros",
    "",
)
_LAYER_HEADER = ("layer", "type", "error", "", "kept")
_METHOD_HEADER = ("method", "agreement", "score error", "cosine")
_MOODS: dict[Verdict, str] = {"within limits": " good", "over limits": " bad", "no limits": ""}


def html_page(report: CalibrationReport, pictures: Sequence[ChangedPicture] = ()) -> str:
    """Return the page, with the first MAX_FRAMES pictures."""
    title = escape(f"edgert calibrate: {report.model}")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head>",
            "<body>",
            *_head(report),
            *_methods(report),
            *_changed(pictures[:MAX_FRAMES]),
            *_layers(report),
            *_tensors(report),
            *_run(report),
            "</body>",
            "</html>",
            "",
        ]
    )


def _head(report: CalibrationReport) -> Iterator[str]:
    yield f"<h1>{escape(report.model)}</h1>"
    yield f'<p class="dim">INT8 by {escape(report.method)}, against FP32 on held-out frames</p>'
    yield f'<p class="big{_MOODS[report.verdict]}">{escape(report.verdict.capitalize())}</p>'
    yield from (f'<p class="warning">{escape(problem)}</p>' for problem in report.problems)
    yield from (f'<p class="warning">Note: {escape(note)}</p>' for note in report.notes)
    rows = [*figure_rows(report.figures)] if report.figures else []
    yield from _list([*rows, *cost_rows(report.reference, report.candidate)])


def _methods(report: CalibrationReport) -> Iterator[str]:
    if not report.methods:
        return
    yield '<h2>Methods</h2><p class="dim">on the selection frames, which are not those held out</p>'
    yield from term_lines(METHODS, [*_METHOD_HEADER, *(each.method for each in report.methods)])
    rows = [
        (
            each.method,
            share_text(each.agreement),
            share_text(each.figures.score_error if each.figures else None),
            share_text(each.figures.cosine_mean if each.figures else None),
        )
        for each in report.methods
    ]
    marks = ["best" if each.is_chosen else "" for each in report.methods]
    yield from _table(_METHOD_HEADER, map(_escaped, rows), marks)


def _changed(pictures: Sequence[ChangedPicture]) -> Iterator[str]:
    if not pictures:
        return
    yield "<h2>Frames that changed most</h2>"
    if any(isinstance(picture.frame.reference, Detections) for picture in pictures):
        yield '<p class="dim"><span class="key both"></span>on both<span class="key alone"></span>on one</p>'
    for number, picture in enumerate(pictures):
        yield from picture_html(picture, number)


def _layers(report: CalibrationReport) -> Iterator[str]:
    if not report.layers:
        return
    layers = report.sensitive_layers
    yield "<h2>Sensitivity of layers</h2>"
    yield from term_lines(LAYERS, ["error", "float" if any(layer.is_kept for layer in layers) else ""])
    largest = layers[0].error or 0.0
    yield from _table(_LAYER_HEADER, (_layer_row(layer, largest) for layer in layers[:MAX_LAYERS]))
    yield from _left_out(len(layers) - MAX_LAYERS)


def _layer_row(layer: LayerReport, largest: float) -> tuple[str, ...]:
    error = "" if layer.error is None else f"{layer.error:.2e}"
    width = 100 * (layer.error or 0.0) / largest if largest > 0 else 0.0
    name = "over" if layer.is_kept else "within"
    bar = (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{name}" width="{width:.1f}" height="8"/></svg>'
    )
    kept = f"float: {layer.reason}" if layer.is_kept else layer.reason
    return (*_escaped((layer.name, layer.type, error)), bar, *_escaped((kept,)))


def _tensors(report: CalibrationReport) -> Iterator[str]:
    if not report.tensors:
        return
    tensors = report.worst_tensors
    yield "<h2>Tensors</h2>"
    yield (
        '<p class="dim">the worst first; log counts of magnitudes, the line is what becomes 127:'
        '<span class="key in"></span>represented<span class="key out"></span>saturated</p>'
    )
    yield from term_lines(TENSORS, _TENSOR_HEADER)
    yield from _table(_TENSOR_HEADER, map(_tensor_row, tensors[:MAX_TENSORS]))
    yield from _left_out(len(tensors) - MAX_TENSORS)


def _tensor_row(tensor: TensorReport) -> tuple[str, ...]:
    cells = (
        f"{tensor.name} (dead)" if tensor.is_dead else tensor.name,
        decibel_text(tensor.sqnr_db),
        f"{tensor.amax:.4g}",
        tensor.method,
        f"{tensor.low:.4g}",
        f"{tensor.high:.4g}",
        f"{tensor.saturated_share:.3%}",
        f"{tensor.zeros_share:.1%}",
    )
    return (*_escaped(cells), histogram_svg(tensor.histogram, tensor.amax) if tensor.histogram else "")


def _run(report: CalibrationReport) -> Iterator[str]:
    yield "<h2>Run</h2>"
    made_utc = report.made_utc.astimezone(datetime.timezone.utc)
    rows: list[Row] = [
        ("source", f"{report.source.name}, SHA-256 {report.source.sha256}"),
        ("made", f"{made_utc:%Y-%m-%d %H:%M:%S} UTC, edgert {report.edgert}"),
        ("onnxruntime", report.onnxruntime or "not used"),
        ("samples", sample_text(report.samples)),
        ("seed", str(report.seed)),
    ]
    rows += [(f"time of {stage.name}", f"{stage.seconds:.1f} s") for stage in report.stages]
    if report.peak_rss_bytes is not None:
        rows.append(("peak memory", f"{report.peak_rss_bytes / 1e6:,.0f} MB"))
    yield from _list(rows)


def _list(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield f"<dl>{''.join(map(_item, rows))}</dl>"


def _item(row: Row) -> str:
    title, text = row
    term = f"<dd><small>{escape(term_of(title))}</small></dd>" if term_of(title) else ""
    return f"<div><dt>{escape(title)}</dt><dd>{escape(text)}</dd>{term}</div>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], marks: Sequence[str] = ()) -> Iterator[str]:
    """Yield rows of cells that are HTML already."""
    yield '<div class="wide"><table>'
    yield f"<thead><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr></thead><tbody>"
    for index, row in enumerate(rows):
        mark = marks[index] if index < len(marks) else ""
        opened = f'<tr class="{mark}">' if mark else "<tr>"
        yield f"{opened}{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</tbody></table></div>"


def _escaped(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(escape(cell if len(cell) <= MAX_NAME else f"{cell[: MAX_NAME - 1]}…") for cell in cells)


def _left_out(count: int) -> Iterator[str]:
    if count > 0:
        yield f'<p class="dim">{count:,} more are in the JSON file.</p>'
