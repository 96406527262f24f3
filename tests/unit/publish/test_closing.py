"""The deadlines of a connection that is to end."""

from __future__ import annotations

import pytest

from edgert.publish.closing import Closing
from tests.fakes.clock import FakeClock

SECOND_NS = 1_000_000_000


@pytest.fixture
def clock():
    return FakeClock(5 * SECOND_NS)


@pytest.fixture
def closing(clock):
    return Closing(clock)


def test_before_it_begins_nothing_is_late(closing, clock):
    clock.advance(1000 * SECOND_NS)
    assert not closing.is_begun
    assert not closing.is_late()
    assert not closing.is_late_for_results()
    assert closing.patience_s(0.5, for_results=True) == 0.5
    assert closing.limited_ns(7) == 7


def test_the_farewell_has_the_last_second(closing, clock):
    closing.begin(10.0)
    assert closing.is_begun
    assert closing.patience_s(60.0, for_results=True) == 9.0
    assert closing.patience_s(60.0, for_results=False) == 10.0
    clock.advance(9 * SECOND_NS)
    assert (closing.is_late_for_results(), closing.is_late()) == (True, False)
    clock.advance(SECOND_NS)
    assert closing.is_late()
    assert closing.patience_s(60.0, for_results=False) == 0.0


def test_of_a_short_time_the_farewell_has_a_share(closing):
    closing.begin(1.0)
    assert closing.patience_s(60.0, for_results=True) == pytest.approx(0.8)


def test_other_deadlines_are_cut_or_extended(closing, clock):
    closing.begin(2.0)
    assert closing.limited_ns(6 * SECOND_NS) == 6 * SECOND_NS
    assert closing.limited_ns(60 * SECOND_NS) == 7 * SECOND_NS
    assert closing.extended_ns(0.25) == 7 * SECOND_NS
    clock.advance(2 * SECOND_NS)
    assert closing.extended_ns(0.25) == 7 * SECOND_NS + SECOND_NS // 4


def test_beginning_ends_a_wait(closing):
    closing.begin(1.0)
    closing.wait(3600.0)
