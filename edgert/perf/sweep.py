"""One load after the other on the same lanes, up to a latency limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from edgert.perf.measure import Figures
from edgert.perf.options import Level


def sweep(
    levels: Iterable[Level],
    measure: Callable[[Level], Figures | None],
    limit_ms: float | None,
    on_figures: Callable[[Figures], None],
) -> list[Figures]:
    """Return the figures of each level, as far as `measure` gives any; the first over the limit ends it."""
    measured: list[Figures] = []
    for level in levels:
        figures = measure(level)
        if figures is None:
            break
        if limit_ms is not None and figures.response.p99_ms > limit_ms:
            figures = msgspec.structs.replace(figures, is_over_limit=True)
        measured.append(figures)
        on_figures(figures)
        if figures.is_over_limit:
            break
    return measured


def best_of(measured: Sequence[Figures]) -> Figures | None:
    """Return the figures with the highest throughput among those within the limit, if any is."""
    within = [figures for figures in measured if not figures.is_over_limit]
    return max(within, key=lambda figures: figures.throughput_per_s, default=None)
