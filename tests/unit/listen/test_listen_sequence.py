"""Missing, late and duplicate numbers, against plain sets."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from edgert.listen.sequence import Sequence

WINDOW = 16


def places(numbers, window=WINDOW):
    sequence = Sequence(window)
    return [sequence.hear(number) for number in numbers], sequence.missing


def test_one_after_the_other_is_all_right():
    assert places(range(5, 9)) == (["next"] * 4, 0)


def test_a_gap_is_missing_until_it_is_filled():
    assert places([0, 1, 4]) == (["next"] * 3, 2)
    assert places([0, 1, 4, 2]) == (["next"] * 3 + ["late"], 1)
    assert places([0, 1, 4, 2, 3]) == (["next"] * 3 + ["late"] * 2, 0)


def test_the_same_number_again_is_a_duplicate():
    assert places([3, 3, 4, 3]) == (["next", "duplicate", "next", "duplicate"], 0)


def test_what_was_before_the_first_was_never_missing():
    assert places([10, 8, 8]) == (["next", "late", "duplicate"], 0)


def test_beyond_the_window_a_number_is_late_and_stays_missing():
    assert places([0, 2, 2 + WINDOW, 1, 2]) == (["next"] * 3 + ["late"] * 2, WINDOW)
    assert places([0, 1 + WINDOW, 2]) == (["next", "next", "late"], WINDOW - 1)


@given(st.lists(st.integers(0, WINDOW - 1), max_size=60))
def test_within_the_window_it_counts_as_sets_would(numbers):
    found, missing = places(numbers)
    duplicates = len(numbers) - len({*numbers})
    assert found.count("duplicate") == duplicates
    expected = {*range(numbers[0], max(numbers) + 1)} - {*numbers} if numbers else set()
    assert missing == len(expected)


@given(st.lists(st.integers(0, (1 << 63) - 1), max_size=40))
def test_no_number_is_too_large_and_missing_is_never_negative(numbers):
    sequence = Sequence(WINDOW)
    for number in numbers:
        assert sequence.hear(number) in ("next", "late", "duplicate")
        assert sequence.missing >= 0
        assert sequence._heard < 1 << WINDOW


def test_memory_does_not_grow():
    sequence = Sequence(1024)
    for number in range(0, 100_000, 3):
        sequence.hear(number)
    assert sys.getsizeof(sequence._heard) < 1024
    assert sequence.missing == 33_333 * 2


def test_a_gap_while_nobody_listened_is_not_missing():
    sequence = Sequence()
    for number in (0, 1):
        sequence.hear(number)
    sequence.skip()
    assert [sequence.hear(number) for number in (5, 8)] == ["next", "next"]
    assert (sequence.unheard, sequence.missing) == (3, 2)
    assert [sequence.hear(number) for number in (3, 3, 6)] == ["late", "duplicate", "late"]
    assert (sequence.unheard, sequence.missing) == (2, 1)
