"""How many in a minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgert.control.limits import Allowance
from tests.fakes.clock import FakeClock

MINUTE_NS = 60_000_000_000


def test_a_burst_and_then_one_for_each_share_of_a_minute():
    clock = FakeClock()
    allowance = Allowance(60, burst=3, mono_ns=clock)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    clock.advance(999_999_999)
    assert not allowance.take()
    clock.advance(1)
    assert [allowance.take(), allowance.take()] == [True, False]


def test_a_burst_is_no_more_than_what_a_minute_allows():
    allowance = Allowance(1, burst=10, mono_ns=FakeClock())
    assert [allowance.take(), allowance.take()] == [True, False]


@given(
    st.integers(1, 6000),
    st.integers(1, 20),
    st.lists(st.integers(0, MINUTE_NS // 2), min_size=1, max_size=200),
)
def test_never_more_than_the_rate_and_a_burst(per_minute, burst, pauses_ns):
    clock = FakeClock()
    allowance = Allowance(per_minute, burst=burst, mono_ns=clock)
    taken = 0
    for pause_ns in pauses_ns:
        clock.advance(pause_ns)
        taken += allowance.take()
    assert taken <= burst + clock.now_ns * per_minute / MINUTE_NS + 1e-3 * len(pauses_ns)
    clock.advance(MINUTE_NS)
    assert allowance.take()
