"""When requests come."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.perf.load import ClosedLoad, OpenLoad, make_load
from edgert.perf.options import Level

S = 1_000_000_000
START = 7 * S


def arrivals(load, count):
    load.start(START)
    return [(load.take() - START) / S for _ in range(count)]


# Closed


def test_closed_load_has_so_many_waiting_at_once():
    load = ClosedLoad(3)
    assert load.next_ns() is None
    load.start(START)
    assert [load.take() for _ in range(3)] == [START] * 3
    assert load.next_ns() is None


def test_an_answer_brings_the_next_request():
    load = ClosedLoad(1)
    load.start(START)
    load.take()
    load.finish(START + 5)
    assert load.next_ns() == START + 5
    assert load.take() == START + 5


def test_a_stopped_closed_load_brings_nothing_more():
    load = ClosedLoad(2)
    load.start(START)
    load.take()
    load.stop(START + 5)
    load.finish(START + 6)
    assert load.next_ns() is None


# Open


def test_constant_arrivals_are_evenly_spaced_and_do_not_drift():
    times = arrivals(OpenLoad(30.0, "constant", 0), 30_000)
    assert times == pytest.approx([(index + 1) / 30 for index in range(30_000)], abs=1e-6)


def test_poisson_arrivals_have_the_gaps_of_a_poisson_process():
    times = np.array(arrivals(OpenLoad(200.0, "poisson", 3), 20_000))
    gaps = np.diff(times, prepend=0.0) * 200.0  # in mean gaps
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert gaps.std() == pytest.approx(1.0, abs=0.05)  # as the mean: exponential
    for gap in (0.1, 0.5, 1.0, 2.0, 4.0):
        assert (gaps > gap).mean() == pytest.approx(np.exp(-gap), abs=0.015)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0.0, abs=0.03)  # independent


def test_poisson_counts_vary_by_as_much_as_they_are():
    times = np.array(arrivals(OpenLoad(50.0, "poisson", 11), 50_000))
    counts = np.bincount(times.astype(int))[:-1]  # a second each
    assert counts.mean() == pytest.approx(50, rel=0.03)
    assert counts.var() == pytest.approx(50, rel=0.15)


def test_a_seed_gives_the_same_arrivals_again():
    assert arrivals(OpenLoad(10.0, "poisson", 5), 50) == arrivals(OpenLoad(10.0, "poisson", 5), 50)
    assert arrivals(OpenLoad(10.0, "poisson", 5), 50) != arrivals(OpenLoad(10.0, "poisson", 6), 50)


def test_answers_do_not_change_when_requests_come():
    plain, answered = (OpenLoad(10.0, "poisson", 5) for _ in range(2))
    for load in (plain, answered):
        load.start(START)
    answered.finish(START + S)
    assert [plain.take() for _ in range(20)] == [answered.take() for _ in range(20)]


def test_a_request_keeps_the_time_at_which_it_was_due():
    load = OpenLoad(10.0, "constant", 0)
    load.start(START)
    assert load.next_ns() == START + S // 10
    assert load.next_ns() == START + S // 10
    assert load.take() == START + S // 10
    assert load.next_ns() == START + S // 5


def test_a_stopped_open_load_keeps_those_that_were_due():
    load = OpenLoad(10.0, "constant", 0)
    load.start(START)
    load.stop(START + S // 4)
    assert [load.take(), load.take()] == [START + S // 10, START + S // 5]
    assert load.next_ns() is None


def test_a_level_makes_its_load():
    closed, opened = (make_load(Level(kind, 2.0), "constant", 0) for kind in ("concurrency", "rate"))
    closed.start(START)
    opened.start(START)
    assert closed.next_ns() == START
    assert opened.next_ns() == START + S // 2
