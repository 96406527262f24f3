"""Sweeps: where they end, and which level is the best."""

from __future__ import annotations

from edgert.perf.measure import Sample, figures_of
from edgert.perf.options import Level
from edgert.perf.sweep import best_of, sweep

MS = 1_000_000
LEVELS = [Level("concurrency", count) for count in (1, 2, 3, 4)]


def figures(level, response_ms, count=10):
    """Return figures of `count` requests a second."""
    samples = [
        Sample(begun, begun, begun + round(response_ms * MS), 0.1, 0.0, response_ms, 0.0)
        for begun in range(0, 1000 * MS, 1000 * MS // count)
    ]
    return figures_of(level, 1, samples)


def run(responses_ms, limit_ms=None, counts=(10, 20, 30, 25)):
    told = []
    results = iter(zip(responses_ms, counts, strict=False))

    def measure(level):
        result = next(results, None)
        return None if result is None else figures(level, *result)

    measured = sweep(LEVELS, measure, limit_ms, told.append)
    assert told == measured
    return measured


def test_without_a_limit_every_level_is_measured():
    measured = run([1, 2, 3, 4])
    assert [each.level for each in measured] == LEVELS
    assert best_of(measured) is measured[2]  # not the last: the throughput fell


def test_the_first_level_over_the_limit_ends_the_sweep():
    measured = run([1, 2, 9, 4], limit_ms=5)
    assert [each.is_over_limit for each in measured] == [False, False, True]
    assert best_of(measured) is measured[1]


def test_a_response_at_the_limit_is_within_it():
    assert [each.is_over_limit for each in run([5, 5, 5, 5], limit_ms=5)] == [False] * 4


def test_when_no_level_is_within_the_limit_there_is_no_best():
    measured = run([9], limit_ms=5)
    assert len(measured) == 1
    assert best_of(measured) is None


def test_an_interrupted_sweep_keeps_what_it_has():
    assert [each.level.value for each in run([1, 2])] == [1, 2]
    assert run([]) == []
