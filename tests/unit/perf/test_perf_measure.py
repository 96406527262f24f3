"""trtexec's definitions, against numbers that its own C++ expression gives and sums done by hand."""

from __future__ import annotations

import random

import pytest

from edgert.perf.measure import Sample, figures_of, median, percentile, spread_of, warnings_of
from edgert.perf.options import Level

LEVEL = Level("concurrency", 1)
MS = 1_000_000

# static_cast<int>((1 - percentile / 100) * all) with `float percentile`, compiled by GCC for x86-64: which
# place of so many ascending values the percentiles 50, 90, 95, 99, 99.9 and 100 are.
PLACES = {
    1: (0, 0, 0, 0, 0, 0),
    2: (0, 1, 1, 1, 1, 1),
    10: (4, 8, 9, 9, 9, 9),
    20: (9, 17, 18, 19, 19, 19),
    99: (49, 89, 94, 98, 98, 98),
    100: (49, 89, 94, 99, 99, 99),
    101: (50, 90, 95, 99, 100, 100),
    300: (149, 269, 284, 297, 299, 299),
    999: (499, 899, 949, 989, 998, 998),
    1000: (499, 899, 949, 990, 999, 999),
    12345: (6172, 11110, 11727, 12221, 12332, 12344),
}


def sample(arrived=0, started=0, finished=10, *, enqueue=0.1, fill=1.0, compute=8.0, fetch=1.0):
    return Sample(arrived * MS, started * MS, finished * MS, enqueue, fill, compute, fetch)


@pytest.mark.parametrize("count", PLACES)
def test_percentiles_are_those_of_trtexec(count):
    percents = (50, 90, 95, 99, 99.9, 100)
    assert tuple(percentile(range(count), percent) for percent in percents) == PLACES[count]


def test_median_is_the_middle_or_the_mean_of_the_middle_two():
    assert median([3]) == 3
    assert median([1, 2, 9]) == 2
    assert median([1, 2, 4, 9]) == 3


def test_spread_of_ten_times():
    times = [10.0, 1.0, 9.0, 2.0, 8.0, 3.0, 7.0, 4.0, 6.0, 5.0]
    spread = spread_of(times)
    assert (spread.min_ms, spread.max_ms, spread.mean_ms, spread.median_ms) == (1.0, 10.0, 5.5, 5.5)
    assert (spread.p90_ms, spread.p95_ms, spread.p99_ms) == (9.0, 10.0, 10.0)
    assert spread.variation == pytest.approx(8.25**0.5 / 5.5, abs=1e-6)  # the population's, not the sample's


def test_order_does_not_matter():
    times = [random.Random(7).uniform(1, 100) for _ in range(333)]
    assert spread_of(times) == spread_of(sorted(times)) == spread_of(reversed(times))


def test_times_that_are_all_zero_have_no_variation():
    assert spread_of([0.0, 0.0]).variation == 0.0


def test_throughput_is_from_the_first_start_to_the_last_end():
    samples = [sample(0, 5, 15), sample(1, 10, 25), sample(2, 20, 30)]
    figures = figures_of(LEVEL, 4, samples)
    assert figures.wall_s == pytest.approx(0.025)
    assert figures.throughput_per_s == pytest.approx(3 / 0.025)
    assert figures.items_per_s == pytest.approx(12 / 0.025)
    assert figures.requests == 3


def test_latency_is_a_sum_and_response_what_the_clock_saw():
    figures = figures_of(LEVEL, 1, [sample(0, 5, 40, fill=1.5, compute=8.0, fetch=0.5)])
    assert figures.latency.median_ms == 10.0
    assert figures.response.median_ms == 40.0
    assert figures.compute_s == pytest.approx(0.008)


def test_requests_that_still_wait_count_with_what_they_had_waited():
    figures = figures_of(LEVEL, 1, [sample(0, 0, 10)], [500.0, 600.0])
    assert figures.unserved == 2
    assert figures.requests == 1
    assert figures.response.max_ms == 600.0
    assert figures.response.median_ms == 500.0


# Warnings


def warned(samples, *, is_device=True, lanes=1, unserved=()):
    return list(warnings_of(figures_of(LEVEL, 1, samples, unserved), is_device=is_device, lanes=lanes))


def test_a_good_measurement_warns_of_nothing():
    assert warned([sample(), sample()]) == []


@pytest.mark.parametrize(
    ("times", "word"),
    [
        ({"enqueue": 6.5}, "enqueue"),
        ({"fill": 8.0}, "copies of inputs"),
        ({"fetch": 8.0}, "copies of outputs"),
    ],
)
def test_what_may_bound_throughput_is_warned_of(times, word):
    [warning] = warned([sample(**times)])
    assert word in warning
    assert warned([sample(**times)], is_device=False) == []


def test_enqueue_may_take_four_fifths_of_the_compute_time():
    assert warned([sample(enqueue=8.0, compute=10.0)]) == []


def test_unstable_times_are_warned_of():
    [warning] = warned([sample(compute=8.0), sample(compute=9.0)])
    assert "5.9%" in warning
    assert warned([sample(compute=8.0), sample(compute=8.3)]) == []


def test_several_lanes_and_unserved_requests_are_warned_of():
    lanes, unserved = warned([sample()], lanes=4, unserved=[100.0])
    assert "4 lanes" in lanes
    assert "lower bounds" in unserved
