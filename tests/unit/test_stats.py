from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.stats import (
    CopyCounts,
    Latency,
    LatencySummary,
    LiveCount,
    Tally,
    proportional_set_bytes,
    stage_cpu_s,
)

MS = 1_000_000


def run_threads(count, target):
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Tally


def test_a_tally_counts_by_name():
    tally = Tally()
    tally.add("late")
    tally.add("late", 2)
    tally.add("full")
    assert tally["late"] == 3
    assert tally["never"] == 0
    assert tally.snapshot() == {"late": 3, "full": 1}
    assert tally.total() == 4


def test_a_snapshot_is_a_copy():
    tally = Tally()
    tally.snapshot()["late"] = 9
    assert tally["late"] == 0


def test_no_count_of_many_threads_is_lost():
    tally = Tally()

    def add():
        for _ in range(2000):
            tally.add("copies")

    run_threads(4, add)
    assert tally["copies"] == 8000


def test_copies_and_their_bytes_are_counted_by_kind():
    counts = CopyCounts()
    counts.add("host_to_device", 100)
    counts.add("host_to_device", 600, copies=3)
    assert counts.copies.snapshot() == {"host_to_device": 4}
    assert counts.bytes.snapshot() == {"host_to_device": 700}


# Latency


def test_no_samples_are_all_zero():
    assert Latency().summary() == LatencySummary(0, 0.0, 0.0, 0.0, 0.0)


def test_one_sample_is_every_percentile():
    latency = Latency()
    latency.add(1_500_000)
    assert latency.summary() == LatencySummary(1, 1.5, 1.5, 1.5, 1.5)


def test_percentiles_are_of_the_nearest_rank():
    latency = Latency()
    for ms in range(100, -1, -1):
        latency.add(ms * MS)
    assert latency.summary() == LatencySummary(101, 50.0, 99.0, 100.0, 5050.0)


def test_percentiles_forget_what_maximum_and_sum_remember():
    latency = Latency()
    latency.add(900 * MS)
    for _ in range(Latency.WINDOW):
        latency.add(1 * MS)
    assert latency.summary() == LatencySummary(Latency.WINDOW + 1, 1.0, 1.0, 900.0, 900.0 + Latency.WINDOW)


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=300))
def test_percentiles_are_ordered_samples(durations_ns):
    latency = Latency()
    for duration_ns in durations_ns:
        latency.add(duration_ns)
    summary = latency.summary()
    samples = {round(ns / 1e6, 3) for ns in durations_ns}
    assert {summary.p50_ms, summary.p99_ms, summary.max_ms} <= samples
    assert min(samples) <= summary.p50_ms <= summary.p99_ms <= summary.max_ms == max(samples)
    assert summary.count == len(durations_ns)


def test_a_summary_may_be_asked_for_while_samples_come():
    latency = Latency()
    is_done = threading.Event()

    def add():
        for _ in range(20_000):
            latency.add(MS)
        is_done.set()

    adder = threading.Thread(target=add)
    adder.start()
    while not is_done.is_set():
        summary = latency.summary()
        assert summary.p50_ms in (0.0, 1.0)
    adder.join()
    assert latency.summary().count == 20_000


# Live instances


@pytest.fixture
def live():
    live = LiveCount("thing of a test")
    yield live
    del LiveCount.registered[live.name]


def test_open_instances_are_counted_by_name(live):
    live.opened()
    live.opened()
    assert LiveCount.snapshot()["thing of a test"] == 2
    live.closed()
    live.closed()
    assert "thing of a test" not in LiveCount.snapshot()


def test_an_instance_closed_twice_shows(live):
    live.closed()
    assert LiveCount.snapshot()["thing of a test"] == -1
    live.opened()


# The process


def test_pss_of_a_process_is_what_the_kernel_says():
    assert proportional_set_bytes() > 1 << 20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert proportional_set_bytes(os.getpid()) <= pages * os.sysconf("SC_PAGE_SIZE") * 1.5


def test_pss_grows_with_memory_that_is_written():
    size = 8 << 20
    data = b"x" * size
    with mmap.mmap(-1, size) as pages:
        before = proportional_set_bytes()
        pages.write(data)
        assert proportional_set_bytes() - before > size * 0.5  # other pages of the process may go meanwhile


def test_cpu_time_is_summed_by_stage():
    may_end = threading.Event()
    are_busy = threading.Barrier(3)

    def work():
        sum(range(200_000))
        are_busy.wait(10)
        assert may_end.wait(10)

    threads = [threading.Thread(target=work, name=f"measured:{number}") for number in range(2)]
    for thread in threads:
        thread.start()
    are_busy.wait(10)
    seconds = stage_cpu_s()
    may_end.set()
    for thread in threads:
        thread.join()
    assert seconds["measured"] > 0
    assert "measured:0" not in seconds
    assert seconds["MainThread"] > 0
