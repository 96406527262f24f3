"""The report as one HTML page that needs nothing beside it: no script, no font, no other file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from edgert.execute.engine import GraphCounts
from edgert.perf.curve import curve
from edgert.perf.measure import Figures, Spread
from edgert.perf.report import PerfReport, Setup
from edgert.perf.report_text import titles_of

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --dim: #5c6670; --line: #dde2e7; --paper: #ffffff;
  --p50: #0b6fb8; --p99: #b5480a; --warn: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --dim: #9aa5b0; --line: #333c45;
  --paper: #14181c; --p50: #5db4f0; --p99: #f0965a; --warn: #3a3016; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 0.5rem; }
p { margin: 0.25rem 0; }
.dim, caption { color: var(--dim); }
.big { font-size: 2rem; font-weight: 600; margin: 1rem 0 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 0.25rem 0.5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
tr.best td { font-weight: 600; }
tr.over td { color: var(--dim); }
figure { margin: 0; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--dim); font-size: 11px; }
svg .grid { stroke: var(--line); }
svg .limit { stroke: var(--ink); stroke-dasharray: 5 4; }
svg polyline { fill: none; stroke-width: 2; }
svg polyline.p50 { stroke: var(--p50); } svg circle.p50 { fill: var(--p50); }
svg polyline.p99 { stroke: var(--p99); } svg circle.p99 { fill: var(--p99); }
.key { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%; margin: 0 0.3em 0 0.8em; }
.key.p50 { background: var(--p50); } .key.p99 { background: var(--p99); }
.warning { background: var(--warn); padding: 0.4rem 0.6rem; border-radius: 0.3rem; margin: 0.4rem 0; }
"""
_LEVEL_HEADER = ("load", "items/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "compute ms")
_SPREAD_HEADER = ("ms", "min", "median", "mean", "90%", "95%", "99%", "max")
_LAYER_HEADER = ("layer", "mean ms", "median ms", "share", "kind", "precision")


def html_page(report: PerfReport) -> str:
    """Return the page."""
    title = escape(f"edgert perf: {report.setup.model}")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            f'<head><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{_STYLE}</style></head>",
            "<body>",
            *_body(report),
            "</body>",
            "</html>",
            "",
        ]
    )


def _body(report: PerfReport) -> Iterator[str]:
    setup, headline = report.setup, report.headline
    yield f"<h1>{escape(setup.model)}</h1>"
    yield f'<p class="dim">{escape(_setup_text(setup, report.graphs))}</p>'
    yield f'<p class="big">{headline.items_per_s:,.1f} items/s</p>'
    response = headline.response
    yield (
        f"<p>at {escape(headline.level.title)}: p50 {response.median_ms:.3f} ms, "
        f"p99 {response.p99_ms:.3f} ms from when a request came to its answer</p>"
    )
    limit_ms = setup.latency_limit_ms
    if limit_ms is not None and report.best is None:
        yield f'<p class="warning">No load kept 99% of its responses within {limit_ms:g} ms.</p>'
    if report.is_interrupted:
        yield '<p class="warning">Interrupted: these are the figures up to then.</p>'
    yield from (f'<p class="warning">{escape(warning)}</p>' for warning in report.warnings)
    yield from _levels(report)
    yield f"<h2>Times of a batch at {escape(headline.level.title)}</h2>"
    rows = (_spread_row(title, getattr(headline, field)) for field, title in titles_of(setup))
    yield from _table(_SPREAD_HEADER, rows)
    yield from _bare(report)
    yield from _layers(report)


def _levels(report: PerfReport) -> Iterator[str]:
    limit_ms = report.setup.latency_limit_ms
    yield "<h2>Response time against throughput</h2>"
    yield "<figure>"
    yield curve(report.levels, limit_ms)
    limit = "" if limit_ms is None else f", dashed: the limit of {limit_ms:g} ms"
    yield (
        '<figcaption class="dim"><span class="key p50"></span>p50<span class="key p99"></span>p99'
        f", numbers: {report.levels[0].level.kind}{limit}</figcaption></figure>"
    )
    marks = [
        "over" if figures.is_over_limit else "best" if index == report.best else ""
        for index, figures in enumerate(report.levels)
    ]
    yield from _table(_LEVEL_HEADER, map(_level_row, report.levels), marks)


def _bare(report: PerfReport) -> Iterator[str]:
    bare = report.bare
    if bare is None:
        return
    yield "<h2>Beside the plain loop</h2>"
    ratio = "" if report.bare_ratio is None else f"; edgert reaches {report.bare_ratio:.3f} of it"
    yield f"<p>{escape(bare.kind)}, {bare.width} wide: {bare.items_per_s:,.1f} items/s{ratio}</p>"


def _layers(report: PerfReport) -> Iterator[str]:
    if not report.layers:
        return
    yield '<h2>Layers</h2><p class="dim">timed one after the other</p>'
    rows = (
        (
            layer.name,
            f"{layer.mean_ms:.4f}",
            f"{layer.median_ms:.4f}",
            f"{layer.share:.1%}",
            layer.kind,
            layer.precision,
        )
        for layer in report.layers
    )
    yield from _table(_LAYER_HEADER, rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], marks: Sequence[str] = ()) -> Iterator[str]:
    yield '<div class="wide"><table>'
    yield f"<thead><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in header)}</tr></thead><tbody>"
    for index, row in enumerate(rows):
        mark = marks[index] if index < len(marks) else ""
        opened = f'<tr class="{mark}">' if mark else "<tr>"
        yield f"{opened}{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody></table></div>"


def _level_row(figures: Figures) -> tuple[str, ...]:
    response = figures.response
    times = (
        response.median_ms,
        response.p90_ms,
        response.p95_ms,
        response.p99_ms,
        figures.compute.median_ms,
    )
    return figures.level.title, f"{figures.items_per_s:,.1f}", *(f"{ms:.3f}" for ms in times)


def _spread_row(title: str, spread: Spread) -> tuple[str, ...]:
    times = (
        spread.min_ms,
        spread.median_ms,
        spread.mean_ms,
        spread.p90_ms,
        spread.p95_ms,
        spread.p99_ms,
        spread.max_ms,
    )
    return title, *(f"{ms:.3f}" for ms in times)


def _setup_text(setup: Setup, graphs: GraphCounts) -> str:
    told = f", {graphs.captured or 'no'} graphs" if setup.is_device else ""
    return (
        f"{setup.runtime} on {setup.device}, batch {setup.batch}, {setup.lanes} lanes{told}, "
        f"input: {setup.input}, {setup.duration_s:g} s a level, edgert {setup.edgert}"
    )
