from __future__ import annotations

import pytest

from edgert.publish.replay_pace import CATCH_UP_S, ReplayPace
from tests.fakes.clock import FakeClock

MS = 1_000_000


@pytest.fixture
def clock():
    return FakeClock(10**12)


def sent_at_once(pace):
    count = 0
    while pace.due_s() == 0:
        pace.begun()
        count += 1
    return count


def test_the_first_is_due_at_once_and_the_next_after_the_interval(clock):
    pace = ReplayPace(500.0, clock)
    clock.advance(CATCH_UP_S * 1e9)
    sent_at_once(pace)
    assert pace.due_s() == pytest.approx(0.002)
    clock.advance(MS)
    assert pace.due_s() == pytest.approx(0.001)
    clock.advance(MS)
    assert pace.due_s() == 0


def test_a_wake_that_is_a_little_late_costs_no_pace(clock):
    pace = ReplayPace(500.0, clock)
    sent_at_once(pace)
    sent = 0
    for _ in range(300):  # ten seconds, looked at 30 times in each
        clock.advance(33 * MS + MS // 3)
        sent += sent_at_once(pace)
    late = 300 * CATCH_UP_S * 500
    assert sent == pytest.approx(
        late + 300, abs=2
    )  # what is later than that is given up, and not sent in a lump


@pytest.mark.parametrize("late_ms", [1, 3, 10, 19])
def test_over_time_the_pace_is_the_one_asked_for(clock, late_ms):
    pace = ReplayPace(500.0, clock)
    sent_at_once(pace)
    sent = sum(sent_at_once(pace) for _ in range(5000) if clock.advance(late_ms * MS) is None)
    assert sent == pytest.approx(5000 * late_ms / 2, rel=0.001)


def test_a_slow_pace_is_kept_too(clock):
    pace = ReplayPace(0.5, clock)
    assert sent_at_once(pace) == 1
    assert pace.due_s() == pytest.approx(2.0 - CATCH_UP_S)
