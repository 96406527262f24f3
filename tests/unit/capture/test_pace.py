from __future__ import annotations

import threading
import time

from edgert.capture.pace import Clock, Pacer


def test_first_frame_is_due_at_once_and_the_next_a_period_later(clock):
    pacer = Pacer(10.0, clock)
    pacer.start()
    began = clock.now_ns
    assert [pacer.is_due(1.0) for _ in range(4)] == [True] * 4
    assert clock.now_ns - began == 300_000_000


def test_rate_zero_never_waits(clock):
    pacer = Pacer(0.0, clock)
    pacer.start()
    assert all(pacer.is_due(1.0) for _ in range(100))
    assert clock.pauses_s == []


def test_wait_is_given_up_after_the_timeout_without_losing_the_place(clock):
    pacer = Pacer(1.0, clock)
    pacer.start()
    began = clock.now_ns
    pacer.is_due(0.2)
    assert [pacer.is_due(0.3) for _ in range(4)] == [False, False, False, True]
    assert clock.now_ns - began == 1_000_000_000


def test_a_late_frame_does_not_shift_the_next(clock):
    pacer = Pacer(10.0, clock)
    pacer.start()
    began = clock.now_ns
    pacer.is_due(1.0)
    clock.now_ns += 150_000_000
    pacer.is_due(1.0)
    pacer.is_due(1.0)
    assert clock.now_ns - began == 200_000_000


def test_after_a_long_wait_at_most_a_second_is_caught_up(clock):
    pacer = Pacer(10.0, clock)
    pacer.start()
    pacer.is_due(1.0)
    clock.now_ns += 60_000_000_000
    resumed = clock.now_ns
    for _ in range(30):
        pacer.is_due(1.0)
    assert clock.now_ns - resumed == 1_900_000_000


def test_the_pace_begins_with_the_first_frame_asked_for(clock):
    pacer = Pacer(10.0, clock)
    pacer.start()
    clock.now_ns += 500_000_000
    began = clock.now_ns
    assert [pacer.is_due(1.0) for _ in range(3)] == [True] * 3
    assert clock.now_ns - began == 200_000_000


def test_the_machines_clock_waits_for_events():
    event = threading.Event()
    assert not Clock().wait(event, 0.0)
    event.set()
    assert Clock().wait(event, 10.0)


def test_the_machines_clock_counts_nanoseconds_while_it_sleeps():
    began_ns, began_utc_ns = Clock().monotonic_ns(), Clock().utc_ns()
    Clock().sleep(0.01)
    assert 10_000_000 <= Clock().monotonic_ns() - began_ns < 10 * 10**9
    assert abs(began_utc_ns - time.time_ns()) < 10 * 10**9
