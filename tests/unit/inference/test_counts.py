"""Counts of a served version, and what is kept beside them when asked."""

from __future__ import annotations

import msgspec

from edgert.inference.counts import BatchTimes, Counts
from edgert.inference.samples import Histogram, Summaries, Window
from edgert.serve.core import ModelStatistics
from edgert.serve.sampled import SampledStatistics

TIMES = BatchTimes(started_mono_ns=2_000, input_ns=3_000, infer_ns=4_000, output_ns=5_000)


def test_without_being_asked_for_more_it_returns_plain_statistics():
    counts = Counts("plain", 1)
    counts.answered(2, 0, TIMES)
    assert type(counts.snapshot()) is ModelStatistics


def test_many_batches_and_answers_are_all_in_the_sums():
    counts = Counts("plain", 1)
    for index in range(1000):
        counts.batch(1 + index % 2, TIMES)
        counts.answered(1 + index % 2, 500, TIMES)
    found = counts.snapshot()
    assert (found.execution_count, found.inference_count) == (1000, 1500)
    assert [(batch.batch_size, batch.compute_infer.count) for batch in found.batch_stats] == [
        (1, 500),
        (2, 500),
    ]
    assert {batch.compute_input.ns for batch in found.batch_stats} == {500 * 3_000}
    requests = found.inference_stats
    assert (requests.queue.count, requests.queue.ns) == (1000, 1000 * 1_500)
    assert (requests.compute_output.count, requests.compute_output.ns) == (1000, 1000 * 5_000)
    assert requests.success.count == 1000
    assert counts.snapshot() == found


def test_samples_stand_beside_the_same_counts():
    plain, sampled = Counts("plain", 1), Counts("plain", 1, ("summaries", "histograms"))
    for counts in (plain, sampled):
        counts.batch(2, TIMES)
        counts.answered(2, 0, TIMES)
        counts.part(0, 100, 0, 1)
    of_plain, of_sampled = (counts.snapshot(pending=4, sequences=5) for counts in (plain, sampled))
    assert isinstance(of_sampled, SampledStatistics)
    assert (of_sampled.inference_count, of_sampled.pending, of_sampled.sequences) == (2, 4, 5)
    assert of_sampled.batch_stats == of_plain.batch_stats
    assert of_sampled.inference_stats.queue == of_plain.inference_stats.queue
    assert of_sampled.quantiles_ns["queue"] == (2_000,) * 5
    assert of_sampled.quantiles_ns["compute_output"] == (5_000,) * 5
    assert set(of_sampled.quantiles_ns) == {
        "success",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
    }
    assert sum(of_sampled.first_response_ms.counts) == 1


def test_one_without_the_other():
    summaries = Counts("plain", 1, ("summaries",)).snapshot()
    histograms = Counts("plain", 1, ("histograms",)).snapshot()
    assert (summaries.quantiles_ns, summaries.first_response_ms) == ({}, None)
    assert histograms.quantiles_ns is None
    assert sum(histograms.first_response_ms.counts) == 0


def test_request_that_the_cache_answered_counts_as_request_alone():
    counts = Counts("plain", 1, ("summaries",))
    counts.hit(0, 70)
    counts.missed(90)
    quantiles_ns = counts.snapshot().quantiles_ns
    assert set(quantiles_ns) == {"success", "cache_hit", "cache_miss"}
    assert quantiles_ns["cache_hit"] == (70,) * 5
    assert quantiles_ns["cache_miss"] == (90,) * 5


def test_snapshot_is_a_copy():
    counts = Counts("plain", 1, ("summaries",))
    counts.answered(1, 0, TIMES)
    before = counts.snapshot()
    counts.answered(1, 0, BatchTimes(9_000, 1, 1, 1))
    assert before.inference_stats.queue.count == 1
    assert before.quantiles_ns["queue"] == (2_000,) * 5
    assert msgspec.to_builtins(before)["name"] == "plain"


def test_window_keeps_the_newest():
    window = Window("one", "two")
    for number in range(Window.SIZE + 100):
        window.add(number, -number)
    quantiles_ns = window.quantiles_ns()
    oldest, newest = 100, Window.SIZE + 99
    assert quantiles_ns["one"][0] == oldest + int(0.5 * (Window.SIZE - 1) + 0.5)
    assert quantiles_ns["one"][-1] == newest - 1  # rank 0.999 of 1024
    assert quantiles_ns["two"][0] == -quantiles_ns["one"][0] + 1


def test_window_of_one_row_is_that_row():
    window = Window("one")
    assert window.quantiles_ns() == {}
    window.add(5)
    assert window.quantiles_ns() == {"one": (5,) * 5}


def test_windows_do_not_grow():
    summaries = Summaries()
    size = len(summaries.batches._ring)
    for _ in range(3 * Window.SIZE):
        summaries.batches.add(1, 2, 3, 4)
    assert len(summaries.batches._ring) == size == 4 * 8 * Window.SIZE


def test_bucket_has_what_is_not_above_its_bound():
    histogram = Histogram((1, 2))
    durations_ns = (999_999, 1_000_000, 1_000_001, 2_000_000, 2_000_001, 10**12)
    for duration_ns in durations_ns:
        histogram.add(duration_ns)
    assert histogram.counts().bounds == (1, 2)
    assert histogram.counts().counts == (2, 2, 2)
    assert histogram.counts().sum == sum(durations_ns) / 1e6
