"""Which numbers of a sequence were heard, in memory that does not grow."""

from __future__ import annotations

from typing import Literal

WINDOW = 65_536  # numbers below the highest whose hearing is remembered: 8 KiB, half an hour at 30 a second

Place = Literal["next", "late", "duplicate"]


class Sequence:
    """The numbers of one (boot, source, model). Without a gap each is one more than the one before.

    `missing` are those between the first and the highest that were not heard, or not yet: one that comes late
    is taken off again, as long as it is within `WINDOW` of the highest. One that lies further back is
    late too, and whether it was heard before is no longer known. `unheard` are those of gaps during which
    nobody listened; see `skip`.
    """

    __slots__ = ("_first", "_heard", "_highest", "_known", "_skipped", "_skips", "missing", "unheard")

    def __init__(self, window: int = WINDOW) -> None:
        self._known = (1 << window) - 1
        self._heard = 0  # bit n: the number n below the highest
        self._skipped = 0  # likewise: those of `unheard`
        self._skips = False
        self._first = self._highest = -1
        self.missing = self.unheard = 0

    def skip(self) -> None:
        """Take the next gap for numbers that nobody listened to."""
        self._skips = True

    def hear(self, seq: int) -> Place:
        """Note a number, not below 0, and say how it stands to those before."""
        if self._highest < 0:
            self._first = seq
            self._highest = seq - 1
        if seq > self._highest:
            self._advance(seq - self._highest)
            return "next"
        bit = (
            1 << (self._highest - seq) & self._known if seq > self._highest - self._known.bit_length() else 0
        )
        if self._heard & bit:
            return "duplicate"
        self._heard |= bit
        if bit & self._skipped:
            self._skipped ^= bit
            self.unheard -= 1
        elif bit and seq > self._first:
            self.missing -= 1
        return "late"

    def _advance(self, step: int) -> None:
        shift = min(step, self._known.bit_length())
        self._heard = (self._heard << shift | 1) & self._known
        self._skipped = self._skipped << shift & self._known
        self._highest += step
        if self._skips:
            self._skips = False
            self._skipped |= ((1 << shift) - 2) & self._known
            self.unheard += step - 1
        else:
            self.missing += step - 1
