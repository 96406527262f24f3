"""Fits text into a terminal: what may be shown, how wide it is, tables that never wrap."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import msgspec

NARROWEST = 12  # to which a column of text gives way to the others
_GAP = "  "
_RESET = "\x1b[0m"


class Cell(msgspec.Struct, frozen=True):
    """One place of a table. `style` is an ANSI sequence, or empty."""

    text: str
    style: str = ""
    is_number: bool = False  # to the right, and never cut


def number(value: float | None, decimals: int = 0, style: str = "") -> Cell:
    """Return a number's cell; None has none."""
    return Cell("-" if value is None else f"{value:.{decimals}f}", style, is_number=True)


def printable(text: str) -> str:
    """Return the text without what a terminal would obey; it comes from whoever may publish."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def width_of(text: str) -> int:
    """Return how many places of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_width_of_one(char) for char in text)


def clip(text: str, width: int) -> str:
    """Return the text in at most `width` places; an ellipsis says that some is left out."""
    if width_of(text) <= width:
        return text
    kept, left = "", width - 1
    for char in text:
        left -= _width_of_one(char)
        if left < 0:
            break
        kept += char
    return f"{kept}…"[: max(width, 0)]


def table(rows: Sequence[Sequence[Cell]], width: int, *, has_color: bool = False) -> list[str]:
    """Return rows, the header first, as lines of at most `width` places; what finds no room is left out."""
    columns = list(zip(*rows, strict=True))
    natural = [min(width, max(width_of(cell.text) for cell in column)) for column in columns]
    widths = _fitted(natural, columns, width)
    return [_line(row, widths, has_color).rstrip() for row in rows]


def _line(row: Sequence[Cell], widths: Sequence[int], has_color: bool) -> str:
    # Columns that found no room are at the end of the row and have no width.
    return _GAP.join(_placed(cell, width, has_color) for cell, width in zip(row, widths, strict=False))


def _placed(cell: Cell, width: int, has_color: bool) -> str:
    text = clip(cell.text, width)
    space = " " * (width - width_of(text))
    shown = f"{cell.style}{text}{_RESET}" if has_color and cell.style else text
    return f"{space}{shown}" if cell.is_number else f"{shown}{space}"


def _fitted(widths: list[int], columns: Sequence[Sequence[Cell]], width: int) -> list[int]:
    """Leave out columns from the right until the rest can fit; then narrow the widest columns of text."""
    is_text = [not column[-1].is_number for column in columns]
    least = [min(one, NARROWEST) if flexible else one for one, flexible in zip(widths, is_text, strict=True)]
    count = max((n for n in range(1, len(least) + 1) if _total(least[:n]) <= width), default=0)
    if not count:
        return [width]
    kept = widths[:count]
    while _total(kept) > width:
        widest = max((index for index in range(count) if is_text[index]), key=kept.__getitem__)
        kept[widest] -= 1
    return kept


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _width_of_one(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
