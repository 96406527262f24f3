from __future__ import annotations

import random

import pytest

from edgert.execute.pace import STUCK_NS, STUCK_RUNS, Pace

MS = 1_000_000


def drive(pace, times_ns):
    """Ask as a lane does that has nothing else to do; return how late each was noticed, and the questions."""
    late, questions = [], 0
    for took in times_ns:
        look, looks = pace.first_look_ns(0), 1
        while look < took:
            look = max(pace.next_look_ns(look), look + 1)
            looks += 1
        noticed = max(look, took)
        late.append(noticed - took)
        questions += looks
        pace.learn(noticed, is_exact=looks > 1)
    return late, questions


def test_a_steady_lane_is_asked_seldom_and_noticed_in_time():
    pace = Pace()
    drive(pace, [2 * MS] * 200)
    late, questions = drive(pace, [2 * MS] * 1000)
    assert max(late) <= 2 * MS // 8
    assert sum(late) / len(late) < 0.05 * 2 * MS
    assert questions < 20 * 1000


def test_what_is_learnt_does_not_run_away_from_what_batches_take():
    pace, chance = Pace(), random.Random(0)
    times = [int(2 * MS * chance.uniform(0.9, 1.1)) for _ in range(20_000)]
    drive(pace, times)
    assert pace.usual_ns == pytest.approx(2 * MS, rel=0.15)


def test_a_lane_that_becomes_faster_is_followed():
    pace = Pace()
    drive(pace, [20 * MS] * 100)
    drive(pace, [2 * MS] * 200)
    assert pace.usual_ns < 3 * MS


def test_the_first_batch_is_asked_for_at_once():
    assert Pace().first_look_ns(7) == 7


@pytest.mark.parametrize(("usual_ns", "bound_ns"), [(MS, STUCK_NS), (STUCK_NS, STUCK_RUNS * STUCK_NS)])
def test_a_batch_is_stuck_after_a_bound_and_many_times_the_usual(usual_ns, bound_ns):
    pace = Pace()
    pace.usual_ns = usual_ns
    assert not pace.is_stuck(bound_ns)
    assert pace.is_stuck(bound_ns + 1)
