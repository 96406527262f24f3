import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgert.calibrate.observe.histogram import Histogram
from edgert.calibrate.observe.thresholds import (
    AMAX_MAX,
    AMAX_MIN,
    DEAD_AMAX,
    ENTROPY_BINS,
    LEVELS,
    METHODS,
    entropy_bins,
    entropy_divergences,
    quantization_error,
    threshold,
)
from edgert.errors import ModelError

SAMPLES = 200_000


def histogram_of(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part))
    return histogram


def laplace():
    return np.random.default_rng(0).laplace(size=SAMPLES)


def normal():
    rng = np.random.default_rng(0)
    rng.laplace(size=SAMPLES)
    return rng.normal(size=SAMPLES)


def bimodal():
    rng = np.random.default_rng(3)
    return np.concatenate([rng.normal(1, 0.2, SAMPLES), rng.normal(9, 0.5, SAMPLES // 20)])


DISTRIBUTIONS = {
    "laplace": laplace,
    "half_normal": lambda: np.maximum(normal(), 0),
    "uniform": lambda: np.random.default_rng(1).uniform(-3, 3, SAMPLES),
    "relu6": lambda: np.clip(4 * normal(), 0, 6),
    "bimodal": bimodal,
    "heavy_tail": lambda: np.random.default_rng(2).standard_t(3, SAMPLES),
    "one_value": lambda: np.full(10, -3.0),
    "few_values": lambda: np.array([1.0, 2.0, 3.0, 0.0]),
    "five_hundred_values": lambda: np.random.default_rng(4).laplace(size=500),
}
CONTINUOUS = ["laplace", "half_normal", "uniform", "relu6", "bimodal", "heavy_tail"]
every_distribution = pytest.mark.parametrize("name", DISTRIBUTIONS)
every_method = pytest.mark.parametrize("method", METHODS)


def quantized(values, amax):
    scale = amax / LEVELS
    return np.clip(np.rint(values / scale), -LEVELS, LEVELS) * scale


def squared_error(values, amax):
    return float(((quantized(values, amax) - values) ** 2).sum())


def published_divergence(bins, kept):
    """KL of the first `kept` bins, step by step as on the slides of GTC 2017 (s7310)."""
    reference = bins[:kept]
    reference[-1] += sum(bins[kept:])
    level_of = [128 * k // kept for k in range(kept)]
    sums, occupied = [0.0] * 128, [0] * 128
    for k, level in enumerate(level_of):
        sums[level] += bins[k]
        occupied[level] += bins[k] > 0
    candidate = [sums[level_of[k]] / occupied[level_of[k]] if bins[k] > 0 else 0.0 for k in range(kept)]
    divergence, reference_sum, candidate_sum = 0.0, sum(reference), sum(candidate)
    for p, q in zip(reference, candidate, strict=True):
        if p > 0:
            if q == 0:
                return math.inf
            divergence += p / reference_sum * math.log((p / reference_sum) / (q / candidate_sum))
    return divergence


def published_divergences(bins):
    return np.array([published_divergence(bins, kept) for kept in range(128, len(bins) + 1)])


@every_distribution
def test_entropy_chooses_the_bin_that_the_published_loop_chooses(name):
    histogram = histogram_of(DISTRIBUTIONS[name]())
    bins = entropy_bins(histogram)
    plain = published_divergences(bins.tolist())
    assert np.allclose(entropy_divergences(bins), plain, rtol=1e-9, atol=1e-12)
    kept = 128 + np.flatnonzero(plain <= plain.min() + 1e-9)[-1]
    expected = min((kept + 0.5) * histogram.amax / ENTROPY_BINS, histogram.amax)
    assert threshold(histogram, "entropy") == pytest.approx(expected, rel=1e-12)


@given(arrays.arrays(np.int64, st.integers(128, 160), elements=st.integers(0, 5)), st.integers(1, 9))
def test_divergences_are_those_of_the_published_loop(bins, last):
    bins[-1] = last
    plain = published_divergences(bins.tolist())
    assert np.allclose(entropy_divergences(bins.astype(float)), plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "amax", "expected"), [("laplace", 13.50, 10.04), ("half_normal", 4.32, 4.17)]
)
def test_entropy_of_known_samples(name, amax, expected):
    histogram = histogram_of(DISTRIBUTIONS[name]())
    assert histogram.amax == pytest.approx(amax, abs=0.005)
    assert threshold(histogram, "entropy") == pytest.approx(expected, abs=0.01)


def test_entropy_leaves_exact_zeros_out():
    values = normal()
    dense, sparse = histogram_of(values), histogram_of(values, np.zeros(20 * SAMPLES))
    assert threshold(sparse, "entropy") == threshold(dense, "entropy") > 0.8 * dense.amax


def test_entropy_keeps_the_spike_at_the_end():
    assert threshold(histogram_of(DISTRIBUTIONS["relu6"]()), "entropy") == 6.0


def test_entropy_clips_a_lone_outlier_far_from_the_rest():
    values = np.append(np.random.default_rng(5).uniform(-1, 1, SAMPLES), 4.0)
    assert 0.99 < threshold(histogram_of(values), "entropy") < 1.01


@every_distribution
def test_entropy_bins_hold_all_values_with_the_greatest_in_the_last(name):
    values = np.abs(DISTRIBUTIONS[name]())
    histogram = histogram_of(values)
    bins = entropy_bins(histogram)
    assert bins.shape == (ENTROPY_BINS,)
    assert bins.sum() == pytest.approx(np.count_nonzero(values))
    assert bins[-1] > 0
    exact = np.searchsorted(np.sort(values[values > 0]), np.linspace(0, values.max(), ENTROPY_BINS + 1))
    in_one_bin = histogram.counts.max()
    assert np.abs(np.cumsum(bins)[:-1] - exact[1:-1]).max() <= in_one_bin


@every_distribution
@every_method
def test_a_threshold_lies_within_the_values(name, method):
    values = DISTRIBUTIONS[name]()
    chosen = threshold(histogram_of(values), method)
    assert isinstance(chosen, float)
    assert np.abs(values[values != 0]).min() <= chosen <= np.abs(values).max()


@every_distribution
@every_method
def test_a_threshold_scales_with_the_values(name, method):
    values = DISTRIBUTIONS[name]()
    chosen = threshold(histogram_of(values), method)
    assert threshold(histogram_of(values * 2.0**-20), method) == pytest.approx(chosen * 2.0**-20)


@every_distribution
def test_minmax_is_the_greatest_magnitude(name):
    values = DISTRIBUTIONS[name]()
    assert threshold(histogram_of(values), "minmax") == np.abs(values).max()


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("percent", [99.99, 99.999])
def test_percentiles_are_of_all_values_with_zeros(name, percent):
    values = np.abs(DISTRIBUTIONS[name]())
    histogram = histogram_of(values)
    expected = np.percentile(values, percent, method="inverted_cdf")
    assert threshold(histogram, f"percentile_{percent}") == pytest.approx(expected, abs=histogram.bin_width)


def test_a_percentile_that_falls_on_zero_clips_nothing():
    values = np.append(np.zeros(SAMPLES), [0.5, 2.0])
    assert threshold(histogram_of(values), "percentile_99.99") == 2.0


@pytest.mark.parametrize("name", CONTINUOUS)
def test_mse_is_as_good_as_any_threshold(name):
    values = DISTRIBUTIONS[name]()
    greatest = np.abs(values).max()
    least = min(squared_error(values, amax) for amax in np.geomspace(greatest / 256, greatest, 150))
    assert squared_error(values, threshold(histogram_of(values), "mse")) <= 1.003 * least


def test_mse_finds_a_threshold_far_below_the_greatest_value():
    values = np.append(np.random.default_rng(6).normal(size=SAMPLES), [40.0])
    chosen = threshold(histogram_of(values), "mse")
    assert chosen < 20
    assert squared_error(values, chosen) < 0.95 * squared_error(values, 40.0)


@pytest.mark.parametrize("method", ["minmax", "mse", "entropy"])
def test_exact_zeros_change_nothing_but_percentiles(method):
    values = laplace()
    with_zeros = histogram_of(values, np.zeros(7 * SAMPLES))
    assert threshold(with_zeros, method) == threshold(histogram_of(values), method)


@every_method
def test_one_value_is_kept(method):
    assert threshold(histogram_of(np.full(10, -3.0, np.float16)), method) == 3.0


@every_method
@pytest.mark.parametrize("values", [[0.0, 0.0], [-0.0], [1e-45, 0.0], [AMAX_MIN, -1e-30]])
def test_a_dead_tensor_gets_a_scale_that_float16_holds(method, values):
    chosen = threshold(histogram_of(np.array(values)), method)
    scale = np.float16(chosen / LEVELS)
    assert chosen == DEAD_AMAX
    assert scale == chosen / LEVELS >= np.finfo(np.float16).smallest_normal
    assert np.isfinite(1 / scale)


@every_method
@given(
    arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(allow_nan=False, allow_infinity=False))
)
def test_every_scale_is_a_normal_float32_with_an_inverse(method, values):
    chosen = threshold(histogram_of(values), method)
    scale = np.float32(chosen / LEVELS)
    assert AMAX_MIN <= chosen <= AMAX_MAX
    assert np.finfo(np.float32).smallest_normal <= scale < math.inf
    assert np.isfinite(1 / scale)


@every_method
@pytest.mark.parametrize(
    ("values", "message"), [([], "and 0 NaN or Inf"), ([math.nan] * 3, "and 3 NaN or Inf")]
)
def test_refuses_a_histogram_without_a_finite_value(method, values, message):
    with pytest.raises(ModelError, match=message):
        threshold(histogram_of(np.array(values)), method)


@every_method
def test_values_that_are_not_finite_are_left_out(method):
    values = laplace()
    with_bad = histogram_of(values, np.array([math.inf, math.nan]))
    assert with_bad.not_finite == 2
    assert threshold(with_bad, method) == threshold(histogram_of(values), method)


def test_the_methods_are_those_a_recipe_may_name():
    named = ["minmax", "percentile_99.99", "percentile_99.999", "mse", "entropy"]
    assert sorted(METHODS) == sorted(named)


@pytest.mark.parametrize("name", CONTINUOUS)
@pytest.mark.parametrize("part", [1.0, 0.8, 0.3, 0.02])
def test_the_estimated_error_is_the_measured_one(name, part):
    values = DISTRIBUTIONS[name]()
    histogram = histogram_of(values)
    amax = part * histogram.amax
    sqnr_db, saturated = quantization_error(histogram, amax)
    measured_db = 10 * math.log10(float((values**2).sum()) / squared_error(values, amax))
    assert sqnr_db == pytest.approx(measured_db, abs=0.02)
    assert saturated == pytest.approx(np.mean(np.abs(values) > amax), abs=histogram.counts.max() / SAMPLES)


def test_a_spike_at_the_end_is_beyond_any_lower_threshold():
    histogram = histogram_of(np.array([0.0, 1.0, 6.0, 6.0]))
    assert quantization_error(histogram, 5.999)[1] == 0.5
    assert quantization_error(histogram, 6.0)[1] == 0.0
    assert quantization_error(histogram, 7.0)[1] == 0.0


def test_a_tensor_of_zeros_loses_nothing():
    assert quantization_error(histogram_of(np.zeros(4)), DEAD_AMAX) == (math.inf, 0.0)


def test_a_tensor_below_half_a_level_loses_all():
    sqnr_db, saturated = quantization_error(histogram_of(np.array([1e-3, -2e-3])), 1.0)
    assert sqnr_db == pytest.approx(0, abs=1e-9)
    assert saturated == 0.0
