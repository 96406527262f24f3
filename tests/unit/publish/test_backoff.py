"""Waits between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.publish.backoff import Backoff


def test_waits_double_up_to_the_cap():
    backoff = Backoff(1.0, 5.0, draw=lambda: 0.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_success_begins_again_and_a_refusal_goes_to_the_cap():
    backoff = Backoff(1.0, 30.0, draw=lambda: 0.0)
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 1.0
    backoff.exhaust()
    assert [backoff.next_s(), backoff.next_s()] == [30.0, 30.0]


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=12))
def test_jitter_shortens_by_up_to_a_half(draws):
    values = iter(draws)
    backoff = Backoff(1.0, 30.0, draw=lambda: next(values))
    exact = Backoff(1.0, 30.0, draw=lambda: 0.0)
    for draw in draws:
        longest = exact.next_s()
        assert longest / 2 < backoff.next_s() <= longest or draw == pytest.approx(1.0)
