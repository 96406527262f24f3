"""What a broker connection publishes: live results, and between them those that waited on disk."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from edgert.publish.complaint import Complaint
from edgert.publish.dialect import Dialect
from edgert.publish.queued import SinkCounts, SinkQueue
from edgert.publish.replay_pace import ReplayPace
from edgert.publish.session import Message
from edgert.publish.ticket import Ticket

if TYPE_CHECKING:
    from edgert.publish.spool import Spool

log = logging.getLogger(__name__)

STORED_SHARE = 0.5  # of the unacknowledged messages may be stored ones, so that live ones find room


class ResultFeed:
    """A connection's Feed. On the connection's thread, except for the queue.

    A message holds its ticket until the broker has it: what a broken connection leaves unfinished is taken
    back and encoded again, as historical, for the next. With a spool it goes there, among what is older.
    """

    def __init__(
        self,
        name: str,
        qos: int,
        queue: SinkQueue[Ticket],
        dialect: Dialect,
        counts: SinkCounts,
        spool: Spool | None = None,
        replay: ReplayPace | None = None,
    ) -> None:
        self._qos = qos
        self._queue = queue
        self._dialect = dialect
        self._counts = counts
        self._spool = spool
        self._replay = replay
        self._back: deque[Ticket] = deque()  # of a connection that broke, without a spool
        self._connected_ns = 0
        self._most_stored = 1  # in flight at once
        self._ready: deque[Message] = deque()  # what goes with a result, in order
        self._complaint = Complaint(log, f"Sink {name}")

    def connected(self, connected_mono_ns: int, inflight: int) -> None:
        """Begin a connection that takes `inflight` unacknowledged messages.

        A result that was captured before is marked as historical.
        """
        self._connected_ns = connected_mono_ns
        self._most_stored = max(1, int(inflight * STORED_SHARE))
        if self._spool is not None:
            self._spool.begin_replay()

    def next_message(self) -> Message | None:
        """Return what belongs to the last message, else the next live result's first; None if none waits."""
        while not self._ready:
            ticket = self._back.popleft() if self._back else self._queue.take_nowait()
            if ticket is None:
                return None
            self._encode(ticket, is_historical=ticket.captured_mono_ns < self._connected_ns)
        return self._ready.popleft()

    def next_stored(self) -> Message | None:
        """Return the first message of the next stored result; None if none is due."""
        if self._ready or self.stored_due_s() != 0 or self._spool is None or self._replay is None:
            return None
        ticket = self._spool.take()
        if ticket is None:
            return None
        self._replay.begun()
        self._encode(ticket, is_historical=True)
        return self._ready.popleft() if self._ready else None

    def stored_due_s(self) -> float | None:
        """Return the seconds until a stored result is due.

        None: none is read ahead, and the spool says when one is, or an acknowledgement has to come first.
        """
        if self._spool is None or self._replay is None or not self._spool.has_next(self._most_stored):
            return None
        return self._replay.due_s()

    def take_back(self, messages: list[Message]) -> None:
        """Keep the unfinished results of a connection that has ended, in order, for the next."""
        published = [message.ticket for message in messages if message.ticket is not None and message.qos]
        tickets = [*published, *self._unpublished()]
        if self._spool is None:
            self._back.extendleft(reversed(tickets))
        else:
            self._spool.end_replay(tickets)

    @property
    def is_midway(self) -> bool:
        """Some of what goes with one result is out, and some is not."""
        return bool(self._ready)

    @property
    def is_finished(self) -> bool:
        """The queue is closed, and nothing waits in memory. What is on disk stays there."""
        return self._queue.is_finished and not self._ready and not self._back

    def discard(self) -> None:
        """Give up what waits: the disk gets it, or it is counted as `closed`."""
        left = [*self._back, *self._unpublished()]
        self._back.clear()
        if self._spool is not None:
            self._spool.put([*left, *self._queue.take_all(0.0)])
            return
        self._queue.discard()
        if left:
            self._counts.dropped.add("closed", len(left))

    def handed_over(self, message: Message) -> None:
        """Count as sent, with its latency, the first time; with QoS 0 that was all."""
        ticket = message.ticket
        if ticket is None:
            return
        if not ticket.is_counted:
            ticket.is_counted = True
            self._counts.add_sent([ticket.captured_mono_ns])
        if not message.qos:
            self._forget(ticket)
            if self._spool is not None:
                self._complaint.raised("the broker takes QoS 0 only: what was stored goes without its word")

    def acknowledged(self, message: Message) -> None:
        """Count the broker's yes."""
        self._counts.acknowledged += 1
        self._forget(message.ticket)

    def refused(self, message: Message, why: str) -> None:
        """Count the broker's no."""
        self._counts.refused += 1
        self._forget(message.ticket)
        self._complaint.raised(f"the broker refuses {message.topic}: {why}")

    def too_large(self, message: Message, limit_bytes: int) -> None:
        """Count as dropped."""
        self._counts.dropped.add("too_large")
        self._forget(message.ticket)
        self._complaint.raised(f"a result of {len(message.payload)} bytes is over the broker's {limit_bytes}")

    def _encode(self, ticket: Ticket, *, is_historical: bool) -> None:
        """Make the ticket's messages ready. A result that cannot be encoded is counted and stops nothing."""
        result = ticket.result
        try:
            messages = self._dialect.result(result, historical=is_historical, qos=self._qos)
        except Exception as error:  # noqa: BLE001 - whatever a decoder handed on, other results must go out
            self._counts.failed += 1
            self._forget(ticket)
            self._complaint.raised(f"a result of model {result.model} cannot be encoded: {error}")
            return
        messages[-1].ticket = ticket
        self._ready.extend(messages)

    def _forget(self, ticket: Ticket | None) -> None:
        if ticket is not None and self._spool is not None:
            self._spool.done(ticket.number)

    def _unpublished(self) -> list[Ticket]:
        """Return what is encoded and was not published, and forget its messages."""
        tickets = [message.ticket for message in self._ready if message.ticket is not None]
        self._ready.clear()
        return tickets
