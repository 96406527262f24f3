"""Which magnitude becomes 127: ways to choose a tensor's threshold from its histogram, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from edgert.calibrate.observe.histogram import Histogram
from edgert.errors import ModelError
from edgert.frames.result import Array

Method = Literal["minmax", "percentile_99.99", "percentile_99.999", "mse", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)

LEVELS = 127  # on each side of zero
# A tensor that is zero, or all but zero, gets the scale 2**-13: normal in float16, as its inverse is.
DEAD_AMAX = LEVELS * 2.0**-13
AMAX_MIN = LEVELS * 2.0**-64
AMAX_MAX = float(np.finfo(np.float32).max)

ENTROPY_BINS = 2048
ENTROPY_LEVELS = 128
_TIE_NATS = 1e-9

_OCTAVES = 10  # the least candidate of the search for the least squared error is 2**-10 of the greatest value
_COARSE_STEPS = 8 * _OCTAVES
_FINE_STEPS = 64


def threshold(histogram: Histogram, method: Method) -> float:
    """Return the magnitude that becomes 127; the scale is a 127th of it.

    It is above 0, at most the greatest magnitude, and its scale is a normal float32. A tensor that never
    exceeded AMAX_MIN (7e-18) gets DEAD_AMAX. Values that are not finite were left out of the histogram:
    whether `not_finite` matters is for the caller to say.

    Raises:
        ModelError: the histogram holds no finite value.
    """
    if not histogram.count:
        raise ModelError(
            f"A tensor has no finite value to calibrate with, and {histogram.not_finite} NaN or Inf. "
            "Observe at least one frame; if these are many, mend the model or its preparation."
        )
    if histogram.amax <= AMAX_MIN:
        return DEAD_AMAX
    return min(max(_CHOICES[method](histogram), AMAX_MIN), histogram.amax, AMAX_MAX)


def quantization_error(histogram: Histogram, amax: float) -> tuple[float, float]:
    """Return the signal-to-noise ratio in dB and the share of finite values beyond `amax`, 0 to 1.

    Symmetric INT8 with `amax`, above 0, as 127. Values are taken to lie evenly within their bin. The ratio is
    infinite for a tensor of zeros alone, which nothing can distort.
    """
    counts, edges = histogram.counts[: histogram.used], np.arange(histogram.used + 1.0)
    noise = _squared_error(counts, edges, amax / histogram.bin_width)
    signal = float(counts @ np.diff(edges**3)) / 3
    ratio_db = 10 * math.log10(signal / noise) if noise else math.inf
    return ratio_db, _share_beyond(histogram, amax)


def _share_beyond(histogram: Histogram, amax: float) -> float:
    if amax >= histogram.amax:
        return 0.0
    cumulative = _cumulative(histogram)
    return float(cumulative[-1] - np.interp(amax, histogram.edges(), cumulative)) / histogram.count


def _minmax(histogram: Histogram) -> float:
    return histogram.amax


def _percentile(histogram: Histogram, percent: float) -> float:
    """Return the magnitude that `percent` of all finite values, zeros too, do not exceed.

    Where so many are zero that it would be 0, it is the greatest magnitude.
    """
    rank = percent / 100 * histogram.count - histogram.zeros
    if rank <= 0:
        return histogram.amax
    cumulative, edges = _cumulative(histogram), histogram.edges()
    upper = int(np.searchsorted(cumulative, rank))  # the first edge that covers the rank: no empty bins above
    bounds = slice(upper - 1, upper + 1)
    return float(np.interp(rank, cumulative[bounds], edges[bounds]))


def _least_squared_error(histogram: Histogram) -> float:
    """Return the threshold with the least expected squared error. Zeros cost nothing, so do not count."""
    counts, edges = histogram.counts[: histogram.used], np.arange(histogram.used + 1.0)

    def best(candidates: Array) -> float:
        return float(min(candidates, key=lambda candidate: _squared_error(counts, edges, candidate)))

    most = histogram.amax / histogram.bin_width
    ratio = 2.0 ** (_OCTAVES / _COARSE_STEPS)
    coarse = best(most * ratio ** -np.arange(_COARSE_STEPS + 1.0))
    fine = np.linspace(coarse / ratio, min(coarse * ratio, most), _FINE_STEPS)
    return best(np.append(fine, coarse)) * histogram.bin_width


def _squared_error(counts: Array, edges: Array, amax: float) -> float:
    """Return the expected sum of squared errors of rounding to multiples of amax / 127 and clipping at amax.

    In squared bin widths, as are `edges` and `amax` in bin widths. It is the integral of the squared
    distance to the nearest level, over each bin; that has a closed form, so bins may be wider than levels.
    """
    step = amax / LEVELS
    level = np.minimum(np.rint(edges / step), LEVELS)
    distance = edges - level * step
    integral = level * (step**3 / 12) + distance * distance * distance / 3
    return float(counts @ np.diff(integral))


def _entropy(histogram: Histogram) -> float:
    """Return the threshold of least relative entropy (Migacz, 8-bit inference with TensorRT, GTC 2017).

    Exact zeros are left out: they stay exact at any scale, and counted they outweigh all other values. Two
    things are settled that are open there. To clip nothing is a candidate, or a spike at the end, as ReLU6
    leaves, would always be cut. Of equally good candidates the greatest is taken, which clips least: with few
    distinct values each that keeps just one of them is perfect.
    """
    divergences = entropy_divergences(entropy_bins(histogram))
    chosen = ENTROPY_LEVELS + int(np.flatnonzero(divergences <= divergences.min() + _TIE_NATS)[-1])
    return (chosen + 0.5) / ENTROPY_BINS * histogram.amax


def entropy_bins(histogram: Histogram) -> Array:
    """Return the non-zero magnitudes as (2048,) float64 counts of equal bins over (0, amax].

    A bin of the histogram that lies across a bound is divided in proportion, hence fractions.
    """
    bounds = np.linspace(0.0, histogram.amax, ENTROPY_BINS + 1)
    return np.diff(np.interp(bounds, histogram.edges(), _cumulative(histogram)))


def entropy_divergences(bins: Array) -> Array:
    """Return KL(P || Q) in nats for 128 kept bins, 129, ... all; infinite where Q lacks a value of P.

    P are the kept bins with all clipped counts added to the last; Q are the kept bins without them, averaged
    within each of 128 levels over the bins that are not empty. Bin k of n belongs to level 128 k // n.
    """
    kept = np.arange(ENTROPY_LEVELS, len(bins) + 1)
    edges = -(-kept[:, None] * np.arange(ENTROPY_LEVELS + 1) // ENTROPY_LEVELS)
    share = bins / bins.sum()
    total, information = _running(share), _running(share * _log(share))
    level_share = np.diff(total[edges])
    level_log = _log(level_share) - _log(np.diff(_running(share > 0)[edges]))
    clipped, last = np.maximum(1 - total[kept], 0), share[kept - 1]
    own = information[kept - 1] + (last + clipped) * _log(last + clipped)
    cross = (level_share * level_log).sum(axis=1) + clipped * level_log[:, -1] - _log(total[kept])
    return np.where((last > 0) | (clipped == 0), own - cross, np.inf)


def _cumulative(histogram: Histogram) -> Array:
    """Return how many non-zero values lie below each of the histogram's `edges`."""
    return _running(histogram.counts[: histogram.used])


def _running(values: Array) -> Array:
    """Return the sums of the first 0, 1, ... values."""
    return np.concatenate([[0], np.cumsum(values)])


def _log(values: Array) -> Array:
    """Return the natural logarithm, 0 for 0: what is empty has no weight."""
    return np.log(values, where=values > 0, out=np.zeros(values.shape))


_CHOICES: dict[Method, Callable[[Histogram], float]] = {
    "minmax": _minmax,
    "percentile_99.99": lambda histogram: _percentile(histogram, 99.99),
    "percentile_99.999": lambda histogram: _percentile(histogram, 99.999),
    "mse": _least_squared_error,
    "entropy": _entropy,
}
