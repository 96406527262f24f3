"""Where each stored result is on its way from the disk to the broker. No thread, no disk, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from edgert.publish.ticket import Ticket

READ_ROWS = 64  # results read ahead for the connection, as bytes
MAX_KNOWN = 1_000  # tickets kept of what broken connections had in flight; later ones count as new


class Stored(msgspec.Struct, eq=False):
    """A result that was read from the disk."""

    number: int
    data: bytes
    ticket: Ticket | None = None  # once it is restored
    is_on_disk: bool = True


class Reading(NamedTuple):
    """What to read next: so many rows at most, with greater numbers."""

    replay: int  # what was read for one replay is of no use for the next
    after: int
    limit: int


class Backlog:
    """A stored result is on disk only, read ahead, in flight, or done: then its row is to be deleted.

    While it is in flight the budget may take its row away. It is not lost by that: the broker's word settles
    it, or the connection breaks and `end` returns it, to be stored again. One thread at a time.
    """

    def __init__(self) -> None:
        self._ahead: deque[Stored] = deque()  # by number, without a gap,
        self._read_to = 0  # of all rows up to this number that are neither in flight nor done
        self._is_all_read = False  # no row has a greater number
        self._in_flight: dict[int, Stored] = {}
        self._done: set[int] = set()
        self._known: dict[int, Ticket] = {}  # on disk, and had by a connection that broke
        self._replay = 0
        self._is_replaying = False

    @property
    def in_flight(self) -> int:
        """How many were taken and are not settled."""
        return len(self._in_flight)

    @property
    def has_ahead(self) -> bool:
        """`take` has something."""
        return bool(self._ahead)

    @property
    def is_low(self) -> bool:
        """It is time to read ahead."""
        return self._is_replaying and not self._is_all_read and len(self._ahead) <= READ_ROWS // 2

    def begin(self) -> None:
        """A connection is there: the oldest come first."""
        self._start_over()
        self._is_replaying = True

    def end(self) -> list[Ticket]:
        """The connection has ended; returns what it had in flight and the disk no longer has.

        The disk's own come again on the next, with the tickets that they have now.
        """
        again = []
        for stored in self._in_flight.values():
            if stored.ticket is not None and stored.is_on_disk:
                self._remember(stored.ticket)
            elif stored.ticket is not None:
                again.append(stored.ticket)
        self._in_flight.clear()
        self._start_over()
        self._is_replaying = False
        return again

    def others(self, tickets: Iterable[Ticket]) -> list[Ticket]:
        """Return those that are not in flight as stored ones."""
        return [ticket for ticket in tickets if ticket.number not in self._in_flight]

    def wanted(self) -> Reading | None:
        """Return what to read ahead; None if there is enough."""
        return Reading(self._replay, self._read_to, READ_ROWS - len(self._ahead)) if self.is_low else None

    def read(self, reading: Reading, rows: Sequence[tuple[int, bytes]]) -> None:
        """Take in the rows that were found."""
        if reading.replay != self._replay:
            return
        self._is_all_read = len(rows) < reading.limit
        for number, data in rows:
            if number not in self._in_flight and number not in self._done:
                self._ahead.append(Stored(number, data))
            self._read_to = number

    def take(self) -> Stored | None:
        """Return the next, from now on in flight; None if none is read ahead."""
        if not self._ahead:
            return None
        stored = self._ahead.popleft()
        stored.ticket = self._known.pop(stored.number, None)
        self._in_flight[stored.number] = stored
        return stored

    def done(self, number: int) -> None:
        """The broker has it, or never takes it. What is not in flight as a stored one is passed over."""
        stored = self._in_flight.pop(number, None)
        if stored is not None and stored.is_on_disk:
            self._done.add(number)

    def to_delete(self) -> list[int]:
        """Return the numbers of rows that are of no more use, in order."""
        return sorted(self._done)

    def deleted(self, numbers: Iterable[int]) -> None:
        """Their rows are gone."""
        self._done.difference_update(numbers)

    def written(self, tickets: Sequence[Ticket]) -> None:
        """They have rows now, also where a thread was slow to hand one in and later ones were read."""
        for ticket in tickets:
            if ticket.is_counted or ticket.breaks:
                self._remember(ticket)
        first = min((ticket.number for ticket in tickets), default=self._read_to + 1)
        self._is_all_read = False
        if first <= self._read_to:
            self._read_to = first - 1
            self._ahead = deque(stored for stored in self._ahead if stored.number < first)

    def dropped(self, numbers: Iterable[int]) -> int:
        """Their rows are gone, for want of room or by age; returns how many results are lost by that."""
        gone = set(numbers)
        spared = gone & self._done
        self._done -= spared
        for number in gone & self._in_flight.keys():
            self._in_flight[number].is_on_disk = False
            spared.add(number)
        for number in gone & self._known.keys():
            del self._known[number]
        self._ahead = deque(stored for stored in self._ahead if stored.number not in gone)
        return len(gone) - len(spared)

    def all_dropped(self, count: int) -> int:
        """All `count` rows are gone; returns how many results are lost by that."""
        spared = len(self._done)
        for stored in self._in_flight.values():
            spared += stored.is_on_disk
            stored.is_on_disk = False
        self._done.clear()
        self._known.clear()
        self._start_over()
        return max(0, count - spared)

    def _remember(self, ticket: Ticket) -> None:
        if len(self._known) < MAX_KNOWN:
            self._known[ticket.number] = ticket

    def _start_over(self) -> None:
        self._ahead.clear()
        self._read_to = 0
        self._is_all_read = False
        self._replay += 1
