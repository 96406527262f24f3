from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.calibrate.sample.split import (
    KEPT_SHARE,
    Counts,
    share,
    spare_frames,
    split_at_random,
    split_in_order,
)

DEFAULT = Counts(500, 50, 100)
sizes = st.builds(Counts, st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))


def lengths(split):
    return tuple(map(len, split[:3]))


@given(st.integers(1, 900), sizes, st.integers(0, 5))
def test_no_frame_is_in_two_sets_and_no_set_is_too_large(frames, wanted, seed):
    for split in (split_in_order(range(frames), wanted, 2, seed), split_at_random(frames, wanted, seed)):
        everything = [place for part in split[:3] for place in part]
        assert len(set(everything)) == len(everything)
        assert set(everything) <= set(range(frames))
        assert all(len(part) <= most for part, most in zip(split[:3], wanted, strict=True))
        assert all(part == sorted(part) for part in split[:3])
        assert min(lengths(split)) > 0 or frames < 3


@given(st.integers(0, 2000), sizes)
def test_shares_add_up(frames, wanted):
    counts = share(frames, wanted)
    assert sum(counts) == frames
    assert frames < sum(wanted) or counts[1:] == wanted[1:]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, (1, 0, 0)),
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (10, (8, 1, 1)),
        (65, (50, 5, 10)),
        (650, (500, 50, 100)),
        (700, (550, 50, 100)),
    ],
)
def test_few_frames_are_shared_as_asked_for(frames, expected):
    assert share(frames, DEFAULT) == expected


@given(st.integers(3, 300), sizes)
def test_calibration_gets_the_most_of_too_few(frames, wanted):
    counts = share(frames, wanted)
    assert frames >= sum(wanted) or counts.calibration >= max(counts.selection, counts.held_out)
    assert min(counts) >= 1


def distance(split, places):
    """Return how far the nearest two frames of different sets are."""
    kinds = [[places[index] for index in part] for part in split[:3]]
    pairs = [(one, other) for n, one in enumerate(kinds) for other in kinds[n + 1 :] if one and other]
    return min(np.abs(np.subtract.outer(one, other)).min() for one, other in pairs)


@given(st.integers(40, 800), st.sampled_from([0.04, 0.1, 1.0, 7.0]), st.integers(0, 20))
def test_the_sets_are_as_far_apart_as_is_said(frames, step_s, seed):
    places = (np.arange(frames) * step_s).tolist()
    split = split_in_order(places, DEFAULT, 1.0, seed)
    assert split.apart <= 1.0
    assert distance(split, places) >= max(split.apart, step_s) - 1e-9
    there = share(frames, DEFAULT)
    least = [KEPT_SHARE * min(count, most) for count, most in zip(there, DEFAULT, strict=True)]
    assert all(found >= few for found, few in zip(lengths(split), least, strict=True))


@pytest.mark.parametrize(
    ("seconds", "frames_per_s", "wanted"),
    [(60, 25, DEFAULT), (10, 25, Counts(100, 30, 50)), (600, 1, DEFAULT), (20, 30, Counts(200, 50, 100))],
)
def test_in_a_clip_of_usual_length_the_sets_are_a_second_apart(seconds, frames_per_s, wanted):
    kept = min(seconds * frames_per_s, sum(wanted) + spare_frames(wanted))
    for seed in range(30):
        numbers = np.sort(np.random.default_rng(seed).permutation(seconds * frames_per_s)[:kept])
        places = (numbers / frames_per_s).tolist()
        split = split_in_order(places, wanted, 1.0, seed)
        assert split.apart == 1.0
        assert distance(split, places) >= 1.0


def test_in_a_short_clip_the_sets_are_as_far_apart_as_can_be():
    places = (np.arange(50) / 25).tolist()
    split = split_in_order(places, Counts(25, 5, 10), 1.0, 0)
    assert 0.0 < split.apart < 1.0
    assert distance(split, places) >= split.apart
    assert min(lengths(split)) >= 3


def test_in_a_very_short_clip_they_are_neighbours_and_none_is_empty():
    split = split_in_order([0.0, 0.04, 0.08, 0.12], Counts(2, 1, 1), 1.0, 0)
    assert (split.apart, lengths(split)) == (0.0, (2, 1, 1))


def test_who_wants_no_distance_gets_all_frames():
    split = split_in_order(range(20), Counts(14, 3, 3), 0.0, 0)
    assert (split.apart, lengths(split)) == (0.0, (14, 3, 3))


def test_clocks_that_jump_do_no_harm():
    places = [*range(100), *range(40, 140)]
    split = split_in_order(places, Counts(60, 10, 10), 3, 1)
    assert split.apart == 3
    assert distance(split, places) >= 3


def test_with_the_spare_frames_every_set_is_full():
    frames = sum(DEFAULT) + spare_frames(DEFAULT)
    for seed in range(50):
        assert lengths(split_in_order(range(frames), DEFAULT, 2, seed)) == DEFAULT


def test_frames_that_are_apart_anyway_are_all_used():
    wanted = Counts(30, 5, 5)
    assert lengths(split_in_order(range(0, 80, 2), wanted, 2, 0)) == wanted


def test_held_out_frames_stand_in_blocks_all_over_the_stream():
    places = [split_in_order(range(930), DEFAULT, 2, seed).held_out for seed in range(40)]
    for held_out in places:
        assert 1 <= 1 + np.count_nonzero(np.diff(held_out) > 1) <= 5
    assert min(min(held_out) for held_out in places) < 20
    assert max(max(held_out) for held_out in places) > 910


def test_the_seed_decides():
    for split in (
        lambda seed: split_in_order(range(200), DEFAULT, 2, seed),
        lambda s: split_at_random(200, DEFAULT, s),
    ):
        assert split(4) == split(4)
        assert split(4) != split(5)
