from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.device.memory import Budget, Buffer
from edgert.errors import ClosedError, OutOfDeviceMemoryError


def test_a_buffer_gives_its_bytes_back_to_its_owner_once():
    returned = []
    buffer = Buffer(np.zeros(10, np.uint8), returned.append)
    buffer.free()
    with pytest.raises(ClosedError, match="freed before"):
        buffer.free()
    assert returned == [10]


def test_open_buffers_are_counted():
    before = Buffer.live.count
    buffers = [Buffer(np.zeros(1, np.uint8), lambda _: None) for _ in range(3)]
    assert Buffer.live.count == before + 3
    for buffer in buffers:
        buffer.free()
    assert Buffer.live.count == before


def test_a_budget_without_limit_counts_only():
    budget = Budget()
    budget.take(1 << 50)
    assert budget.used_bytes == 1 << 50


def test_a_budget_may_be_used_to_the_last_byte():
    budget = Budget(100)
    budget.take(60)
    budget.take(40)
    with pytest.raises(OutOfDeviceMemoryError):
        budget.take(1)
    budget.give_back(40)
    budget.take(40)


def test_a_refusal_says_what_was_asked_what_is_in_use_and_what_to_do():
    budget = Budget(100)
    budget.take(60)
    with pytest.raises(OutOfDeviceMemoryError, match=r"41 bytes with 60 of 100 in use\. Raise the memory"):
        budget.take(41)


@given(st.lists(st.integers(0, 50), max_size=30))
def test_a_budget_never_exceeds_its_limit_and_remembers_its_peak(sizes):
    budget = Budget(100)
    held, peak = [], 0
    for size in sizes:
        try:
            budget.take(size)
            held.append(size)
        except OutOfDeviceMemoryError:
            assert sum(held) + size > 100
            budget.give_back(held.pop(0))
        peak = max(peak, sum(held))
        assert budget.used_bytes == sum(held) <= 100
        assert budget.peak_bytes == peak


def test_threads_never_exceed_a_budget_together():
    budget = Budget(10)
    taken = []

    def take():
        for _ in range(500):
            try:
                budget.take(1)
                taken.append(1)
            except OutOfDeviceMemoryError:
                pass

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == budget.used_bytes == 10
