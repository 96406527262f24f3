from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.calibrate.sample.split import Counts, share, spare_frames, split_at_random, split_by_time

DEFAULT = Counts(500, 50, 100)
sizes = st.builds(Counts, st.integers(1, 300), st.integers(1, 60), st.integers(1, 60))


def lengths(split):
    return tuple(map(len, split))


@given(st.integers(1, 900), sizes, st.integers(0, 5))
def test_no_frame_is_in_two_sets_and_no_set_is_too_large(frames, wanted, seed):
    for split in (split_by_time(range(frames), wanted, seed), split_at_random(frames, wanted, seed)):
        everything = [place for part in split for place in part]
        assert len(set(everything)) == len(everything)
        assert set(everything) <= set(range(frames))
        assert all(len(part) <= most for part, most in zip(split, wanted, strict=True))
        assert all(part == sorted(part) for part in split)
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


@given(st.integers(40, 800), st.integers(0, 20))
def test_no_neighbours_are_in_two_sets_where_there_are_enough(frames, seed):
    split = split_by_time(range(frames), DEFAULT, seed)
    kind_of = {place: kind for kind, part in enumerate(split) for place in part}
    for place, kind in kind_of.items():
        assert kind_of.get(place + 1, kind) == kind
    assert len(split.calibration) >= 0.8 * min(500, share(frames, DEFAULT).calibration)


def test_with_the_spare_frames_every_set_is_full():
    frames = sum(DEFAULT) + spare_frames(DEFAULT)
    for seed in range(50):
        assert lengths(split_by_time(range(frames), DEFAULT, seed)) == DEFAULT


def test_frames_that_are_apart_anyway_are_all_used():
    wanted = Counts(30, 5, 5)
    assert lengths(split_by_time(range(0, 80, 2), wanted, 0)) == wanted


def test_held_out_frames_stand_in_blocks_all_over_the_stream():
    places = [split_by_time(range(670), DEFAULT, seed).held_out for seed in range(40)]
    for held_out in places:
        assert 1 <= 1 + np.count_nonzero(np.diff(held_out) > 1) <= 5
    assert min(min(held_out) for held_out in places) < 20
    assert max(max(held_out) for held_out in places) > 650


def test_the_seed_decides():
    for split in (
        lambda seed: split_by_time(range(200), DEFAULT, seed),
        lambda s: split_at_random(200, DEFAULT, s),
    ):
        assert split(4) == split(4)
        assert split(4) != split(5)
