"""The histogram of one tensor as a small SVG, with the threshold in it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec
import numpy as np

from edgert.frames.result import Array

BINS = 64  # drawn
WIDTH, HEIGHT = 192, 40


class Outline(msgspec.Struct, frozen=True):
    """A histogram of magnitudes in few bins: equal ones from 0 on."""

    counts: tuple[int, ...]
    bin_width: float


def outline_of(counts: Array, bin_width: float, amax: float) -> Outline:
    """Return a histogram's outline, which ends behind its last value and behind the threshold `amax`.

    `counts` are of equal bins from 0 on.
    """
    filled = np.flatnonzero(counts)
    last = int(filled[-1]) + 1 if len(filled) else 1
    end = max(last, math.ceil(min(amax / bin_width, len(counts)))) if bin_width > 0 else last
    step = math.ceil(end / BINS)
    padded = np.zeros(math.ceil(end / step) * step, np.int64)
    kept = counts[: len(padded)]
    padded[: len(kept)] = kept
    return Outline(tuple(padded.reshape(-1, step).sum(axis=1).tolist()), bin_width * step)


def histogram_svg(outline: Outline, amax: float) -> str:
    """Return the SVG: log counts over magnitudes, what saturates in another colour, a line at `amax`."""
    logs = np.log1p(np.array(outline.counts, np.float64))
    heights = logs / max(float(logs.max(initial=0.0)), 1e-9) * (HEIGHT - 2)
    range_end = outline.bin_width * len(logs)
    share = min(max(amax / range_end, 0.0), 1.0) if range_end > 0 else 1.0
    first_over = math.ceil(share * len(logs) - 1e-9)
    x = share * WIDTH
    return "".join(
        [
            f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="Histogram from 0 to {range_end:.4g}, threshold {amax:.4g}">',
            *_steps("within", heights, 0, first_over),
            *_steps("over", heights, first_over, len(heights)),
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>',
            "</svg>",
        ]
    )


def _steps(name: str, heights: Array, first: int, end: int) -> Iterator[str]:
    """Yield one area of bars beside each other."""
    if first >= end:
        return
    bar = WIDTH / len(heights)
    steps = "".join(f"V{HEIGHT - heights[index]:.1f}H{(index + 1) * bar:.1f}" for index in range(first, end))
    yield f'<path class="{name}" d="M{first * bar:.1f} {HEIGHT}{steps}V{HEIGHT}Z"/>'
