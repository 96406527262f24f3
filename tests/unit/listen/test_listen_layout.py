"""Text that fits a terminal and cannot command it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.listen.layout import Cell, clip, number, printable, table, width_of

ROWS = [
    [Cell("name"), Cell("rate", is_number=True), Cell("last")],
    [Cell("a-long-name", style="\x1b[32m"), number(12.34, 1), Cell("2 cats and a dog")],
]


@given(st.text(max_size=40), st.integers(1, 50))
def test_clipped_text_fits_and_short_text_stays(text, width):
    text = printable(text)
    assert width_of(clip(text, width)) <= width
    assert clip(text, 2 * len(text) + 1) == text


def test_wide_letters_take_two_places():
    assert width_of("猫a") == 3
    assert clip("猫猫猫", 4) == "猫…"
    assert width_of("e\u0301") == 1


@given(st.text(max_size=40))
def test_nothing_that_a_terminal_obeys_is_left(text):
    assert printable(printable(text)).isprintable()


def test_escape_sequences_are_made_visible():
    assert printable("\x1b[2Jcat\r\n") == "\ufffd[2Jcat\ufffd\ufffd"
    assert printable("Käse 猫") == "Käse 猫"


def test_a_table_is_aligned():
    assert table(ROWS, 80) == ["name         rate  last", "a-long-name  12.3  2 cats and a dog"]


@pytest.mark.parametrize("width", range(1, 40))
def test_a_table_never_wraps(width):
    lines = table(ROWS, width)
    assert len(lines) == 2
    assert all(width_of(line) <= width for line in lines)


def test_text_gives_way_before_numbers():
    assert table(ROWS, 33)[1] == "a-long-name  12.3  2 cats and a …"
    assert table(ROWS, 30)[1] == "a-long-name  12.3"  # and what finds no room is left out
    assert table(ROWS, 12)[1] == "a-long-name"
    assert table(ROWS, 8)[1] == "a-long-…"


def test_colour_is_not_counted():
    plain, colored = table(ROWS, 33), table(ROWS, 33, has_color=True)
    assert colored[1].replace("\x1b[32m", "").replace("\x1b[0m", "") == plain[1]
    assert "\x1b[32m" in colored[1]
    assert "\x1b" not in plain[1]


def test_no_number_is_a_dash():
    assert number(None) == Cell("-", is_number=True)
