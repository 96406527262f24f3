import math
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgert.calibrate.observe.histogram import BINS, BLOCK, EXPONENT_MIN, Histogram, HistogramState
from edgert.errors import ModelError

DTYPES = [np.float16, np.float32, np.float64]


def histogram_of(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


def counts_by_division(values, bin_width):
    """Return the expected counts: each magnitude's bin is worked out by itself, in exact integers."""
    counts = [0] * BINS
    for value in values:
        if value != 0:
            top, bottom = abs(float(value)).as_integer_ratio()
            unit_top, unit_bottom = bin_width.as_integer_ratio()
            counts[top * unit_bottom // (bottom * unit_top)] += 1
    return counts


def any_floats(dtype, **options):
    bits = np.dtype(dtype).itemsize * 8
    shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)
    return arrays.arrays(dtype, shapes, elements=st.floats(width=bits, **options))


float_arrays = st.sampled_from(DTYPES).flatmap(any_floats)
finite_arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: any_floats(dtype, allow_nan=False, allow_infinity=False)
)


@given(st.lists(float_arrays, max_size=4))
def test_counts_each_value_once_in_its_bin(parts):
    histogram = histogram_of(*parts)
    values = np.concatenate([part.astype(np.float64).ravel() for part in parts] or [np.empty(0)])
    finite = values[np.isfinite(values)]
    assert histogram.count == finite.size
    assert histogram.not_finite == values.size - finite.size
    assert histogram.zeros == np.count_nonzero(finite == 0)
    assert (histogram.low, histogram.high) == ((finite.min(), finite.max()) if finite.size else (0, 0))
    assert histogram.counts.tolist() == counts_by_division(finite, histogram.bin_width)


@given(
    st.lists(finite_arrays, min_size=1, max_size=5),
    st.integers(-60, 0),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_division_into_calls_changes_anything(parts, exponent, random):
    parts = [np.ldexp(part, exponent) for part in parts]
    shuffled = [value for part in parts for value in part.ravel()]
    random.shuffle(shuffled)
    one_by_one = histogram_of(*(np.array(value) for value in shuffled))
    assert one_by_one.state() == histogram_of(*parts).state()


@given(finite_arrays)
def test_the_greatest_value_is_in_the_last_used_bin(values):
    histogram = histogram_of(values)
    assert histogram.amax == (np.abs(values).max() if values.size else 0)
    assert not histogram.counts[histogram.used :].any()
    assert bool(histogram.counts[histogram.used - 1]) == bool(histogram.amax)
    if histogram.amax >= 2.0**EXPONENT_MIN:
        assert histogram.used > BINS // 2


@given(finite_arrays)
def test_edges_bound_the_values_of_each_bin_and_end_at_the_greatest(values):
    histogram = histogram_of(values)
    edges = histogram.edges()
    assert len(edges) == histogram.used + 1
    assert edges[0] == 0
    assert edges[-1] == histogram.amax
    magnitudes = np.abs(values.astype(np.float64).ravel())
    below = [np.count_nonzero((magnitudes > 0) & (magnitudes < edge)) for edge in edges[:-1]]
    assert below == [0, *np.cumsum(histogram.counts[: histogram.used])][:-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_tensor_of_many_blocks_in_any_layout_counts_as_its_values(seed):
    tensor = np.random.default_rng(seed).laplace(size=(3, 90, 5, 97)).astype(np.float32)
    assert tensor.size > 3 * BLOCK
    whole = histogram_of(tensor)
    expected, _ = np.histogram(np.abs(tensor), BINS, (0, whole.bin_width * BINS))
    assert whole.counts.tolist() == expected.tolist()
    assert histogram_of(tensor.transpose(3, 0, 2, 1)).state() == whole.state()
    assert histogram_of(tensor[..., ::2], tensor[..., 1::2]).state() == whole.state()
    assert histogram_of(tensor.astype(">f4")).state() == whole.state()


def test_grows_over_many_orders_of_magnitude():
    powers = 10.0 ** np.arange(-18, 39, dtype=np.float64)
    upwards, downwards = (histogram_of(*order.astype(np.float32)) for order in (powers, powers[::-1]))
    assert upwards.state() == downwards.state()
    assert upwards.count == upwards.counts.sum() == len(powers)
    assert upwards.bin_width * BINS == 2.0**127
    assert upwards.counts[0] == np.count_nonzero(powers < upwards.bin_width)


def test_zeros_before_small_values_cost_no_resolution():
    small = np.array([1e-6, 3e-6, 2e-9], np.float32)
    histogram = histogram_of(np.zeros(4, np.float32), small)
    assert histogram.state() == histogram_of(small, np.zeros(4, np.float32)).state()
    assert histogram.used > BINS // 2


def test_the_range_is_above_a_power_of_two():
    histogram = histogram_of(np.array([4.0], np.float32))
    assert histogram.bin_width * BINS == 8.0
    assert histogram.used == BINS // 2 + 1
    assert histogram_of(np.array([np.nextafter(4, 0, dtype=np.float32)])).used == BINS


def test_subnormal_values_are_no_zeros():
    least = np.array([5e-324, -5e-324, 0.0, -0.0])
    histogram = histogram_of(least, np.array([1e-45, 0], np.float32), np.array([6e-8], np.float16))
    assert (histogram.zeros, histogram.count, histogram.counts.sum()) == (3, 7, 4)


def test_the_greatest_float64_leaves_room_for_the_least():
    greatest = np.finfo(np.float64).max
    histogram = histogram_of(np.array([greatest, -greatest]), np.ones(3, np.float32))
    assert histogram.amax == greatest
    assert (histogram.counts[0], histogram.counts[BINS - 1]) == (3, 2)
    assert histogram.edges()[-1] == greatest


def test_negative_values_count_by_magnitude():
    values = np.array([-3.0, 1.0, 2.0], np.float32)
    histogram = histogram_of(values)
    assert (histogram.low, histogram.high, histogram.amax) == (-3.0, 2.0, 3.0)
    assert histogram.counts.tolist() == histogram_of(-values).counts.tolist()


def test_low_and_high_need_not_lie_on_both_sides_of_zero():
    histogram = histogram_of(np.array([5.0, 6.0]), np.array([7.0]))
    assert (histogram.low, histogram.high) == (5.0, 7.0)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2)])
def test_an_empty_tensor_adds_nothing(shape):
    assert histogram_of(np.empty(shape, np.float32)).state() == Histogram().state()


def test_zeros_alone():
    histogram = histogram_of(np.zeros((4, 5), np.float32))
    assert (histogram.zeros, histogram.count, histogram.amax, histogram.counts.sum()) == (20, 20, 0.0, 0)
    assert histogram.edges().tolist() == [0.0, 0.0]


def test_values_that_are_not_finite_are_counted_apart_and_leave_no_trace():
    values = np.array([np.nan, 1.5, np.inf, -np.inf, -2.5, 0.0], np.float32)
    histogram = histogram_of(values)
    assert histogram.not_finite == 3
    assert msgspec.structs.replace(histogram.state(), not_finite=0) == histogram_of(values[[1, 4, 5]]).state()


def test_nothing_but_nan():
    histogram = histogram_of(np.full(7, np.nan, np.float16))
    assert (histogram.not_finite, histogram.count, histogram.amax) == (7, 0, 0.0)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool, np.complex64, np.longdouble])
def test_refuses_values_of_other_types(dtype):
    with pytest.raises(ModelError, match=f"this one is {np.dtype(dtype)}"):
        Histogram().add(np.ones(3, dtype))


def test_needs_little_memory_for_a_tensor_of_any_size():
    tensor = np.ones(64 * BLOCK, np.float16)
    histogram = histogram_of(tensor[:1])
    tracemalloc.start()
    histogram.add(tensor)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < peak_bytes < 16 * BLOCK + 4 * 8 * BINS < tensor.nbytes


@given(st.lists(float_arrays, max_size=3), float_arrays)
def test_goes_on_from_a_stored_state(parts, last):
    before = histogram_of(*parts)
    stored = msgspec.msgpack.encode(before.state())
    after = Histogram.from_state(msgspec.msgpack.decode(stored, type=HistogramState))
    assert after.count == before.count
    after.add(last)
    assert after.state() == histogram_of(*parts, last).state()


def test_a_state_is_a_copy():
    histogram = histogram_of(np.ones(3))
    state = histogram.state()
    resumed = Histogram.from_state(state)
    resumed.add(np.ones(1))
    assert (histogram.count, resumed.count) == (3, 4)
    assert state == histogram.state()


def test_a_state_survives_json():
    state = histogram_of(np.array([1.0, 0.1, np.nan])).state()
    assert msgspec.json.decode(msgspec.json.encode(state), type=HistogramState) == state


@pytest.mark.parametrize(
    "change",
    [
        {"exponent": 5},
        {"exponent": 10**12},
        {"counts": b""},
        {"counts": b"\0" * 11},
        {"counts": bytes(8 * (BINS // 2 + 1))},
        {"counts": b"\xff" * 8 * (BINS // 2 + 1)},
        {"zeros": -1},
        {"not_finite": -1},
        {"low": 2.0},
        {"high": math.nan},
        {"high": math.inf},
    ],
)
def test_refuses_a_state_that_contradicts_itself(change):
    state = histogram_of(np.array([1.0, 0.25, -0.5])).state()
    assert len(state.counts) == 8 * (BINS // 2 + 1)
    with pytest.raises(ModelError, match="contradicts itself"):
        Histogram.from_state(msgspec.structs.replace(state, **change))
