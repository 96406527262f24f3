"""The report as text: the summary in trtexec's order, a table of the levels, the layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edgert.execute.engine import GraphCounts
from edgert.perf.layers import LayerTimes
from edgert.perf.measure import Figures, Spread
from edgert.perf.report import PerfReport, Setup

_WIDEST = 60
_LEVEL_HEADER = ("load", "batches/s", "items/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "compute ms", "")
_LAYER_HEADER = ("mean ms", "median ms", "share", "kind", "precision", "layer")


def text_lines(report: PerfReport) -> Iterator[str]:
    """Yield the report's lines."""
    yield _setup_line(report.setup, report.graphs)
    if len(report.levels) > 1:
        yield ""
        yield "=== Levels (response times, from when a request came to its answer) ==="
        yield from table_lines(_LEVEL_HEADER, map(_level_row, report.levels))
    yield ""
    yield from _summary(report.headline, report.setup)
    if report.setup.latency_limit_ms is not None:
        yield _limit_line(report, report.setup.latency_limit_ms)
    if report.layers:
        yield ""
        yield "=== Layers (timed one after the other) ==="
        yield from table_lines(_LAYER_HEADER, map(_layer_row, report.layers))
    yield from _bare_lines(report)
    yield from (f"warning: {warning}" for warning in report.warnings)
    if report.is_interrupted:
        yield "interrupted: these are the figures up to then"


def progress_line(figures: Figures) -> str:
    """Return one level's result, as it is told while a sweep goes on."""
    response = figures.response
    mark = ", over the limit" if figures.is_over_limit else ""
    return (
        f"{figures.level.title}: {figures.throughput_per_s:.1f} batches/s, p50 {response.median_ms:.3f} ms, "
        f"p99 {response.p99_ms:.3f} ms{mark}"
    )


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield rows under their header, numbers to the right."""
    cells = [[cell if len(cell) <= _WIDEST else f"{cell[: _WIDEST - 1]}…" for cell in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_right = [all(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    for row in (header, *cells):
        placed = (
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, to_right, strict=True)
        )
        yield "  ".join(placed).rstrip()


def titles_of(setup: Setup) -> tuple[tuple[str, str], ...]:
    """Return what the times are called, by their fields; a lane of the host copies nothing to a device."""
    if setup.is_device and setup.device_times:
        fill, compute, fetch = "H2D Latency", "GPU Compute Time", "D2H Latency"
    else:
        fill, compute, fetch = "Fill Time", "Compute Time", ""
    titles = (
        ("response", "Response Time"),
        ("latency", "Latency"),
        ("enqueue", "Enqueue Time"),
        ("fill", fill),
        ("compute", compute),
        ("fetch", fetch),
    )
    return tuple((field, title) for field, title in titles if title)


def _setup_line(setup: Setup, graphs: GraphCounts) -> str:
    parts = [
        f"{setup.model} with {setup.runtime} on {setup.device}",
        f"batch {setup.batch}",
        f"{setup.lanes} lane{'s' * (setup.lanes != 1)}",
    ]
    if setup.is_device:
        parts.append(f"{graphs.captured} graphs" if graphs.captured else "no graphs")
    else:
        parts.append(f"{setup.threads} thread{'s' * (setup.threads != 1)} a lane")
    return ", ".join([*parts, f"input: {setup.input}"])


def _summary(figures: Figures, setup: Setup) -> Iterator[str]:
    yield f"=== Performance summary: {figures.level.title} ==="
    yield f"Throughput: {figures.throughput_per_s:g} qps ({figures.items_per_s:g} items/s)"
    first, *rest = titles_of(setup)
    for field, title in rest:
        yield f"{title}: {_spread_text(getattr(figures, field))}"
    yield f"Total Host Walltime: {figures.wall_s:g} s"
    yield f"Total {dict(rest)['compute']}: {figures.compute_s:g} s"
    yield f"{first[1]}: {_spread_text(figures.response)}"
    unserved = f", {figures.unserved} still waited at the end" if figures.unserved else ""
    yield f"Requests: {figures.requests}{unserved}"


def _spread_text(spread: Spread) -> str:
    return (
        f"min = {spread.min_ms:g} ms, max = {spread.max_ms:g} ms, mean = {spread.mean_ms:g} ms, "
        f"median = {spread.median_ms:g} ms, percentile(90%) = {spread.p90_ms:g} ms, "
        f"percentile(95%) = {spread.p95_ms:g} ms, percentile(99%) = {spread.p99_ms:g} ms"
    )


def _limit_line(report: PerfReport, limit_ms: float) -> str:
    if report.best is None:
        return f"No level kept 99% of its responses within {limit_ms:g} ms"
    best = report.levels[report.best]
    return f"Best within {limit_ms:g} ms at 99%: {best.level.title}, {best.throughput_per_s:g} qps"


def _level_row(figures: Figures) -> tuple[str, ...]:
    response = figures.response
    marks = ["over the limit"] * figures.is_over_limit + [f"{figures.unserved} unserved"] * bool(
        figures.unserved
    )
    return (
        figures.level.title,
        f"{figures.throughput_per_s:.1f}",
        f"{figures.items_per_s:.1f}",
        *(f"{ms:.3f}" for ms in (response.median_ms, response.p90_ms, response.p95_ms, response.p99_ms)),
        f"{figures.compute.median_ms:.3f}",
        ", ".join(marks),
    )


def _layer_row(layer: LayerTimes) -> tuple[str, ...]:
    numbers = (f"{layer.mean_ms:.4f}", f"{layer.median_ms:.4f}", f"{layer.share:.1%}")
    return (*numbers, layer.kind, layer.precision, layer.name)


def _bare_lines(report: PerfReport) -> Iterator[str]:
    bare = report.bare
    if bare is None:
        return
    yield ""
    yield f"=== Plain loop: {bare.kind}, {bare.width} wide ==="
    yield f"Throughput: {bare.throughput_per_s:g} qps ({bare.items_per_s:g} items/s)"
    yield f"Time of a batch: {_spread_text(bare.took)}"
    if report.bare_ratio is not None:
        least, most = min(report.bare_ratios), max(report.bare_ratios)
        yield f"edgert reaches {report.bare_ratio:.3f} of its throughput ({least:.2f} to {most:.2f})"
