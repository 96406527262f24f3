from __future__ import annotations

import sys

import pytest

from edgert.schedule.turns import LONG_TURN_S, SHORT_TURN_S, LongTurn


@pytest.fixture(autouse=True)
def interval_put_back():
    interval_s = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval_s)


def test_a_long_turn_is_long_and_then_short_again():
    sys.setswitchinterval(SHORT_TURN_S)
    with LongTurn():
        assert sys.getswitchinterval() == pytest.approx(LONG_TURN_S)
    assert sys.getswitchinterval() == pytest.approx(SHORT_TURN_S)


def test_a_thousand_long_turns_leave_short_ones_as_they_were():
    sys.setswitchinterval(SHORT_TURN_S)
    for _ in range(1000):
        with LongTurn():
            pass
    assert sys.getswitchinterval() == pytest.approx(SHORT_TURN_S)


def test_it_ends_with_an_error_too():
    sys.setswitchinterval(SHORT_TURN_S)
    with pytest.raises(ValueError, match="wrong"), LongTurn():
        raise ValueError("wrong")
    assert sys.getswitchinterval() == pytest.approx(SHORT_TURN_S)


def test_turns_that_are_longer_stay_so():
    sys.setswitchinterval(0.005)
    with LongTurn():
        assert sys.getswitchinterval() == pytest.approx(0.005)
    assert sys.getswitchinterval() == pytest.approx(0.005)
