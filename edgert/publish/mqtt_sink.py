"""Results to an MQTT broker."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgert.frames.result import Result
from edgert.publish.connection import MqttConnection
from edgert.publish.connector import OpenSession
from edgert.publish.dialect import Dialect
from edgert.publish.mqtt_feed import ResultFeed
from edgert.publish.options import MqttOptions
from edgert.publish.queued import SinkCounts, SinkQueue
from edgert.publish.replay_pace import ReplayPace
from edgert.publish.sink import SinkPulse, SinkStats
from edgert.publish.ticket import Ticket

if TYPE_CHECKING:
    from edgert.publish.spool import Spool

log = logging.getLogger(__name__)

FilterResult = Callable[[Result], Result | None]
SPOOL_SHARE = 0.3  # of the closing time is kept for the disk


class MqttSink:
    """A Sink whose results wait while the broker is away or slow: in memory, or on disk with a spool.

    With a spool, memory holds what a broker that takes everything has yet to acknowledge; the rest goes to
    the disk, and what does not fit there is counted.
    """

    def __init__(
        self,
        name: str,
        options: MqttOptions,
        prefix: str,
        dialect: Dialect,
        open_session: OpenSession,
        spool: Spool | None = None,
    ) -> None:
        self.name = name
        self._spool = spool
        self._counts = SinkCounts()
        spill = self._spill if spool else None
        self._queue: SinkQueue[Ticket] = SinkQueue(options.queue, self._counts, self._why_full, spill)
        replay = ReplayPace(options.spool.replay_per_s) if options.spool else None
        feed = ResultFeed(name, options.qos, self._queue, dialect, self._counts, spool, replay)
        self.connection = MqttConnection(name, prefix, options, open_session, feed, dialect)
        self._numbers = itertools.count(1)

    @property
    def announcer(self) -> MqttConnection:
        """The way to retained states."""
        return self.connection

    def open(self) -> None:
        """Start to connect. Returns at once; an absent broker is no error.

        Raises:
            ConfigError: the spool cannot be opened.
        """
        if self._spool is not None:
            self._spool.collect = self._waiting_while_away
            self._spool.on_ahead = self.connection.wake
            self._numbers = itertools.count(self._spool.open())
        self.connection.open()

    def send(self, result: Result) -> None:
        """Queue one result. Any thread; returns at once and never raises."""
        self._queue.put(Ticket(next(self._numbers), result))
        self.connection.wake()

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, retain `disconnected`, and disconnect, at most for `timeout_s`.

        What is not delivered by then is on disk, if there is a spool; the log says how much.
        """
        closed = self._counts.dropped["closed"]
        self._queue.close()
        disk_s = timeout_s * SPOOL_SHARE if self._spool else 0.0
        self.connection.close(timeout_s - disk_s)
        if self._spool is not None:
            self._spool.put(self._queue.take_all(0.0))
            self._say_kept(self._spool.close(disk_s), self._spool.path)
        self._queue.discard()
        self._say_lost(self._counts.dropped["closed"] - closed)

    def statistics(self) -> SinkStats:
        """Return what the sink did."""
        statistics = self._queue.statistics(self.connection.is_connected)
        if self._spool is None:
            return statistics
        return msgspec.structs.replace(statistics, spool=self._spool.statistics())

    def pulses(self) -> Sequence[SinkPulse]:
        """Return how far its connection, which is idle while the broker is away, and its spool have come."""
        connection = self.connection
        own = SinkPulse(f"sink {self.name}", connection.turns, is_idle=not connection.is_connected)
        return [own] if self._spool is None else [own, self._spool.pulse()]

    def _spill(self, ticket: Ticket) -> None:
        """Let the disk have what the queue has no room for."""
        assert self._spool is not None  # noqa: S101 - our own invariant
        self._spool.put([ticket])

    def _waiting_while_away(self) -> list[Ticket]:
        """Return what has queued up while the broker is away."""
        return [] if self.connection.is_connected else self._queue.take_all(0.0)

    def _why_full(self) -> str:
        return "queue_full" if self.connection.is_connected else "broker_away"

    def _say_kept(self, count: int, path: Path) -> None:
        level = logging.INFO if self.connection.has_parted else logging.WARNING
        if count:
            text = "Sink %s: %d results are left, on disk in %s; they follow after the next start"
            log.log(level, text, self.name, count, path)

    def _say_lost(self, count: int) -> None:
        why = "did not take them in time" if self.connection.has_parted else "cannot be reached"
        if count:
            text = "Sink %s: %d results are left, and lost: the broker %s%s"
            log.warning(text, self.name, count, why, "" if self._spool else ", and there is no spool")
