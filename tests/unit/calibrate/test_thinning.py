from __future__ import annotations

import pytest

from edgert.calibrate.sample.thinning import Thinning

S = 1_000_000_000


def taken(thinning, times_s):
    """Return the times of the frames that are taken, until it is over."""
    found = []
    for now_s in times_s:
        if thinning.is_over(int(now_s * S)):
            break
        found += [now_s] if thinning.take(int(now_s * S)) else []
    return found


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, [10, 10.5, 11, 11.5, 12, 12.5, 13, 13.5]),
        ({"every": 3}, [10, 11.5, 13]),
        ({"frames_per_s": 1.0}, [10, 11, 12, 13]),
        ({"frames_per_s": 0.9}, [10, 11.5, 13]),
        ({"frames_per_s": 100.0, "every": 4}, [10, 12]),
        ({"max_frames": 3}, [10, 10.5, 11]),
        ({"max_frames": 2, "every": 2}, [10, 11]),
        ({"duration_s": 1.5}, [10, 10.5, 11]),
        ({"duration_s": 0.1}, [10]),
    ],
)
def test_which_frames_are_taken(limits, expected):
    values = {"every": 1, "frames_per_s": 0.0, "duration_s": 0.0, "max_frames": 0, **limits}
    assert taken(Thinning(**values), [10 + 0.5 * step for step in range(8)]) == expected


def test_time_counts_from_the_first_frame():
    thinning = Thinning(1, 0.0, 5.0, 0)
    assert not thinning.is_over(100 * S)
    assert thinning.take(100 * S)
    assert not thinning.is_over(104 * S)
    assert thinning.is_over(105 * S)
