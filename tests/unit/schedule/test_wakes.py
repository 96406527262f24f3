from __future__ import annotations

import threading
import time

from edgert.schedule.wakes import Wakes


def test_a_wake_before_the_wait_is_not_lost():
    wakes = Wakes()
    wakes.wake()
    assert wakes.wait(0.0)


def test_many_wakes_are_one():
    wakes = Wakes()
    for _ in range(3):
        wakes.wake()
    assert wakes.wait(0.0)
    assert not wakes.wait(0.0)


def test_a_wait_ends_when_its_time_is_up():
    assert not Wakes().wait(1e-6)


def test_a_wait_without_limit_ends_with_a_wake():
    wakes, woken = Wakes(), threading.Event()
    thread = threading.Thread(target=lambda: wakes.wait() and woken.set())
    thread.start()
    wakes.wake()
    assert woken.wait(10.0)
    thread.join()


def test_waits_of_microseconds_after_wakes_always_end():
    """`queue.SimpleQueue` hangs here within seconds on Python 3.10 to 3.12."""
    wakes, rounds = Wakes(), [0]

    def churn():
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            wakes.wake()
            wakes.wait(0.0)
            wakes.wait(2e-5)
            rounds[0] += 1

    thread = threading.Thread(target=churn, daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()
    assert rounds[0] > 100


def test_a_wait_may_be_longer_than_a_lock_knows():
    wakes = Wakes()
    wakes.wake()
    assert wakes.wait(1e11)
