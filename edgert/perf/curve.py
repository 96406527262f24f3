"""The curve of throughput against response time, as SVG that stands inside an HTML page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

import msgspec

from edgert.perf.measure import Figures

WIDTH, HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 16, 44
_TICKS = 6
_LOGARITHMIC_FROM = 20.0  # largest by smallest time
_LABELLED = 16  # points at most that carry their load as text

SERIES: tuple[tuple[str, Callable[[Figures], float]], ...] = (
    ("p50", lambda figures: figures.response.median_ms),
    ("p99", lambda figures: figures.response.p99_ms),
)


class Axis(msgspec.Struct, frozen=True):
    """Maps values to places along one side."""

    low: float
    high: float
    begin: float  # the place of `low`
    end: float
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value stands."""
        low, high, at = self.low, self.high, value
        if self.is_logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.begin + (at - low) / (high - low) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        if not self.is_logarithmic:
            step = round_step(self.high - self.low)
            return [step * index for index in range(math.ceil(self.low / step), int(self.high / step) + 1)]
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        within = [value for value in values if self.low <= value <= self.high]
        return within if len(within) <= 2 * _TICKS else [value for value in within if _is_decade(value)]


def round_step(span: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at most `_TICKS` of which make up `span`."""
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit * _TICKS >= span * 0.999)


def curve(levels: Sequence[Figures], limit_ms: float | None) -> str:
    """Return the SVG: for each level its throughput and the 50th and 99th percentile of its responses."""
    x_axis, y_axis = _axes(levels, limit_ms)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Response time against throughput">',
        *_grid(x_axis, y_axis),
    ]
    if limit_ms is not None:
        y = y_axis.place(limit_ms)
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for name, time_of in SERIES:
        parts += _series(name, [(figures, time_of(figures)) for figures in levels], x_axis, y_axis)
    return "\n".join([*parts, "</svg>"])


def _axes(levels: Sequence[Figures], limit_ms: float | None) -> tuple[Axis, Axis]:
    times = [time_of(figures) for figures in levels for _, time_of in SERIES]
    times = [max(time_ms, 1e-6) for time_ms in (*times, *([limit_ms] if limit_ms else ()))]
    is_logarithmic = max(times) > _LOGARITHMIC_FROM * min(times)
    low = min(times) * 0.8 if is_logarithmic else 0.0
    throughput = max(*(figures.items_per_s for figures in levels), 1e-6)
    return (
        Axis(0.0, throughput * 1.05, _LEFT, WIDTH - _RIGHT),
        Axis(low, max(times) * 1.1, HEIGHT - _BOTTOM, _TOP, is_logarithmic),
    )


def _grid(x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    for value in x_axis.ticks():
        x = x_axis.place(value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 15}" text-anchor="middle">{value:g}</text>'
    for value in y_axis.ticks():
        y = y_axis.place(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    yield f'<text x="{middle:g}" y="{HEIGHT - 8}" text-anchor="middle">throughput, items/s</text>'
    place = f"translate(13 {(_TOP + HEIGHT - _BOTTOM) / 2:g}) rotate(-90)"
    yield f'<text transform="{place}" text-anchor="middle">response, ms</text>'


def _series(name: str, points: Sequence[tuple[Figures, float]], x_axis: Axis, y_axis: Axis) -> Iterator[str]:
    places = [(x_axis.place(figures.items_per_s), y_axis.place(time_ms)) for figures, time_ms in points]
    if len(places) > 1:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield f'<polyline class="{name}" points="{joined}"/>'
    for (x, y), (figures, time_ms) in zip(places, points, strict=True):
        told = f"{figures.level.title}: {name} {time_ms:.3f} ms at {figures.items_per_s:.1f} items/s"
        yield f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
        yield f"<title>{escape(told)}</title></circle>"
        if name == SERIES[-1][0] and len(points) <= _LABELLED:
            label = f"{figures.level.value:g}"
            yield f'<text class="label" x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle">{label}</text>'


def _is_decade(value: float) -> bool:
    return math.isclose(math.log10(value) % 1, 0, abs_tol=1e-9)
