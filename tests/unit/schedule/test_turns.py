from __future__ import annotations

import sys

import pytest

from edgert.schedule.turns import LONG_TURN_S, SHORT_TURN_S, LongTurns


@pytest.fixture(autouse=True)
def short_turns():
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SHORT_TURN_S)
    yield
    sys.setswitchinterval(interval_s)


def demand_turns_of(seconds):
    assert sys.getswitchinterval() == pytest.approx(seconds)


def test_turns_are_long_but_while_it_sleeps():
    seen = []
    with LongTurns() as turns:
        demand_turns_of(LONG_TURN_S)
        turns.sleep(lambda: seen.append(sys.getswitchinterval()))
        demand_turns_of(LONG_TURN_S)
    demand_turns_of(SHORT_TURN_S)
    assert seen == [pytest.approx(SHORT_TURN_S)]


def test_a_thousand_sleeps_leave_short_turns_as_they_were():
    with LongTurns() as turns:
        for _ in range(1000):
            turns.sleep(lambda: None)
    demand_turns_of(SHORT_TURN_S)


def test_an_error_ends_the_long_turns():
    with pytest.raises(ValueError, match="wrong"), LongTurns():
        raise ValueError("wrong")
    demand_turns_of(SHORT_TURN_S)


def test_turns_that_are_longer_stay_so():
    sys.setswitchinterval(0.005)
    with LongTurns() as turns:
        demand_turns_of(0.005)
        turns.sleep(lambda: demand_turns_of(0.005))
    demand_turns_of(0.005)


def test_a_block_within_another_ends_with_the_turns_from_before_both():
    with LongTurns() as first:
        with LongTurns() as second:
            second.sleep(lambda: demand_turns_of(SHORT_TURN_S))
            demand_turns_of(LONG_TURN_S)
        first.sleep(lambda: demand_turns_of(SHORT_TURN_S))
    demand_turns_of(SHORT_TURN_S)
