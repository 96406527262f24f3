"""Tickets as rows of a spool, and back. What cannot be converted is counted, and stops nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from edgert.errors import SinkError
from edgert.publish.backlog import Stored
from edgert.publish.complaint import Complaint
from edgert.publish.spool_file import Row
from edgert.publish.stored_result import restore_result, store_result
from edgert.publish.ticket import Ticket
from edgert.stats import Tally

log = logging.getLogger(__name__)


class RowMaker:
    """`made` belongs to one thread, `restored` to another. `dropped` counts what each could not do."""

    def __init__(
        self, name: str, boot: str, dropped: Tally, utc_ns: Callable[[], int], mono_ns: Callable[[], int]
    ) -> None:
        """`boot` is this start, for results that name none."""
        self._boot = boot
        self._dropped = dropped
        self._utc_ns = utc_ns
        self._mono_ns = mono_ns
        self._unstorable = Complaint(log, f"Sink {name}")
        self._damaged = Complaint(log, f"Sink {name}")

    def made(self, tickets: Iterable[Ticket]) -> list[tuple[Ticket, Row]]:
        """Return the tickets that can be stored, with their rows."""
        return [(ticket, row) for ticket in tickets if (row := self._row(ticket)) is not None]

    def restored(self, stored: Stored) -> Ticket | None:
        """Return the ticket of a row, the one that is known if there is one; None if it is no result."""
        if stored.ticket is not None:
            return stored.ticket
        try:
            result = restore_result(stored.data, self._utc_ns(), self._mono_ns())
        except SinkError as error:
            self._dropped.add("damaged")
            self._damaged.raised(str(error))
            return None
        return Ticket(stored.number, result)

    def _row(self, ticket: Ticket) -> Row | None:
        try:
            data = store_result(ticket.result, self._boot)
        except Exception as error:  # noqa: BLE001 - whatever a decoder handed on, other results are kept
            self._dropped.add("unstorable")
            self._unstorable.raised(f"a result of model {ticket.result.model} cannot be stored: {error!r}")
            return None
        return ticket.number, ticket.result.captured_utc_ns, data
