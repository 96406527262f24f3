"""What a broker connection publishes: live results first, then those that waited."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgert.frames.result import Result
from edgert.publish.complaint import Complaint
from edgert.publish.dialect import Dialect
from edgert.publish.queued import SinkCounts, SinkQueue
from edgert.publish.session import Message
from edgert.publish.ticket import Ticket

if TYPE_CHECKING:
    from edgert.publish.spool import Spool

log = logging.getLogger(__name__)

REPLAY_WINDOW_SHARE = 0.5  # of the unacknowledged messages may be stored ones, so that live ones find room
REPLAY_BURST_S = 0.5  # what a quiet connection may make up for


class ResultFeed:
    """A connection's Feed. On the connection's thread, except for the queue.

    A message holds its result until the broker has it: what a broken connection leaves unfinished is taken
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
        self._tickets: dict[Result, Ticket] = {}  # of results in flight
        self._back: deque[Ticket] = deque()  # results of a connection that broke,
        self._again: dict[int, Ticket] = {}  # and those of them that are stored, by number
        self._connected_ns = 0
        self._ready: deque[Message] = deque()  # what goes with a result, in order
        self._complaint = Complaint(log, f"Sink {name}")

    def next_message(self, connected_mono_ns: int) -> Message | None:
        """Return the next message to publish; None if none waits.

        A result that was captured before the connection was there is marked as historical.
        """
        if connected_mono_ns != self._connected_ns:
            self._begin(connected_mono_ns)
        while not self._ready:
            ticket = self._next_ticket()
            if ticket is None:
                return None
            self._encode(ticket, connected_mono_ns)
        return self._ready.popleft()

    def take_back(self, messages: list[Message]) -> None:
        """Keep the unfinished results of a connection that has ended, in order, for the next."""
        tickets = []
        for message in (*messages, *self._ready):
            if message.result is not None and (ticket := self._tickets.pop(message.result, None)):
                ticket.breaks, ticket.is_counted = message.breaks, message.is_counted
                tickets.append(ticket)
        self._ready.clear()
        if self._spool is None:
            self._back.extendleft(reversed(tickets))
            return
        self._spool.end_replay()
        self._spool.put([ticket for ticket in tickets if not ticket.is_stored])
        self._again.update((ticket.number, ticket) for ticket in tickets if ticket.is_stored)

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
        left = [*self._back, *self._unsent()]
        self._back.clear()
        if self._spool is not None:
            self._spool.put([*left, *self._queue.take_all(0.0)])
            return
        self._queue.discard()
        if left:
            self._counts.dropped.add("closed", len(left))

    def handed_over(self, message: Message) -> None:
        """Count as sent, with its latency, the first time; with QoS 0 that was all."""
        if message.result is None:
            return
        if not message.is_counted:
            message.is_counted = True
            self._counts.add_sent([message.result.captured_mono_ns])
        if not message.qos:
            self._settle(message)
            if self._spool is not None:
                self._complaint.raised("the broker takes QoS 0 only: what was stored goes without its word")

    def acknowledged(self, message: Message) -> None:
        """Count the broker's yes."""
        self._counts.acknowledged += 1
        self._settle(message)

    def refused(self, message: Message, why: str) -> None:
        """Count the broker's no."""
        self._counts.refused += 1
        self._settle(message)
        self._complaint.raised(f"the broker refuses {message.topic}: {why}")

    def too_large(self, message: Message, limit_bytes: int) -> None:
        """Count as dropped."""
        self._counts.dropped.add("too_large")
        self._settle(message)
        self._complaint.raised(f"a result of {len(message.payload)} bytes is over the broker's {limit_bytes}")

    def _begin(self, connected_mono_ns: int) -> None:
        self._connected_ns = connected_mono_ns
        if self._spool is not None and self._replay is not None:
            self._replay.start_over()
            self._spool.begin_replay()

    def _next_ticket(self) -> Ticket | None:
        """Return what was sent before, else the oldest live result, else a stored one whose time has come."""
        if self._back:
            return self._back.popleft()
        ticket = self._queue.take_nowait()
        if ticket is not None or self._spool is None or self._replay is None:
            return ticket
        if self._replay.is_due() and (ticket := self._spool.take()) is not None:
            self._replay.begun()
            return self._as_before(ticket)
        return None

    def _as_before(self, ticket: Ticket) -> Ticket:
        """Return what is known of a stored result that a broken connection carried; older ones are gone."""
        before = self._again.pop(ticket.number, ticket)
        for number in [number for number in self._again if number < ticket.number]:
            del self._again[number]
        return before

    def _encode(self, ticket: Ticket, connected_mono_ns: int) -> None:
        """Make the ticket's messages ready. A result that cannot be encoded is counted and stops nothing."""
        result = ticket.result
        is_historical = ticket.is_stored or result.captured_mono_ns < connected_mono_ns
        try:
            messages = self._dialect.result(result, historical=is_historical, qos=self._qos)
        except Exception as error:  # noqa: BLE001 - whatever a decoder handed on, other results must go out
            self._counts.failed += 1
            self._forget(ticket)
            self._complaint.raised(f"a result of model {result.model} cannot be encoded: {error}")
            return
        messages[-1].breaks, messages[-1].is_counted = ticket.breaks, ticket.is_counted
        self._tickets[result] = ticket
        self._ready.extend(messages)

    def _settle(self, message: Message) -> None:
        if message.result is not None and (ticket := self._tickets.pop(message.result, None)):
            self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        if ticket.is_stored and self._spool is not None and self._replay is not None:
            self._replay.ended()
            self._spool.done(ticket.number)

    def _unsent(self) -> list[Ticket]:
        """Return what is encoded and was not published."""
        waiting = [message.result for message in self._ready if message.result is not None]
        self._ready.clear()
        return [self._tickets.pop(result) for result in waiting]


class ReplayPace:
    """Says when a stored result may be published, so that live ones are not late."""

    def __init__(self, per_s: float, window: int, mono_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """`per_s` results a second; of `window` unacknowledged messages a share may be stored ones."""
        self._interval_ns = int(1e9 / per_s)
        self._most = max(1, int(window * REPLAY_WINDOW_SHARE))
        self._mono_ns = mono_ns
        self._in_flight = 0
        self._due_ns = 0

    def is_due(self) -> bool:
        """Say whether the next may go now."""
        return self._in_flight < self._most and self._mono_ns() >= self._due_ns

    def begun(self) -> None:
        """One was published."""
        now_ns = self._mono_ns()
        self._due_ns = max(self._due_ns, now_ns - int(REPLAY_BURST_S * 1e9)) + self._interval_ns
        self._in_flight += 1

    def ended(self) -> None:
        """One was acknowledged, or given up."""
        self._in_flight -= 1

    def start_over(self) -> None:
        """A connection has ended with all that was in flight."""
        self._in_flight = 0
