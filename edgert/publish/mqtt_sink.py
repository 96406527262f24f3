"""Results to an MQTT broker."""

from __future__ import annotations

import logging
from functools import lru_cache

import msgspec

from edgert.errors import ConfigError
from edgert.frames.result import Result
from edgert.publish import topics
from edgert.publish.complaint import Complaint
from edgert.publish.connection import MqttConnection, OpenSession
from edgert.publish.options import MqttOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.queued import CountingEncoder, SinkCounts, SinkQueue
from edgert.publish.session import Message
from edgert.publish.sink import SinkStats

log = logging.getLogger(__name__)


class MqttSink:
    """A Sink whose results wait, bounded, while the broker is away or slow."""

    def __init__(
        self, name: str, options: MqttOptions, prefix: str, encoder: ResultEncoder, open_session: OpenSession
    ) -> None:
        self.name = name
        self._counts = SinkCounts()
        self._queue: SinkQueue[Result] = SinkQueue(options.queue, self._counts, self._why_full)
        encode = CountingEncoder(name, encoder, self._counts)
        feed = ResultFeed(name, prefix, options.qos, self._queue, encode, self._counts)
        self.connection = MqttConnection(name, prefix, options, open_session, feed)

    @property
    def announcer(self) -> MqttConnection:
        """The way to retained states."""
        return self.connection

    def open(self) -> None:
        """Start to connect. Returns at once; an absent broker is no error."""
        self.connection.open()

    def send(self, result: Result) -> None:
        """Queue one result. Any thread; returns at once and never raises."""
        self._queue.put(result)
        self.connection.wake()

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, retain `disconnected`, and disconnect, at most for `timeout_s`."""
        self._queue.close()
        self.connection.close(timeout_s)
        self._queue.discard()

    def statistics(self) -> SinkStats:
        """Return what the sink did."""
        return self._queue.statistics(self.connection.is_connected)

    def _why_full(self) -> str:
        return "queue_full" if self.connection.is_connected else "broker_away"


class ResultFeed:
    """A connection's Feed from a queue of results. On the connection's thread, except for the queue."""

    def __init__(
        self,
        name: str,
        prefix: str,
        qos: int,
        queue: SinkQueue[Result],
        encoder: CountingEncoder,
        counts: SinkCounts,
    ) -> None:
        self._prefix = prefix
        self._qos = qos
        self._queue = queue
        self._encoder = encoder
        self._counts = counts
        self._complaint = Complaint(log, f"Sink {name}")

    def next_message(self, connected_mono_ns: int) -> Message | None:
        """Return the next result to publish; None if none waits.

        A result that was captured before the connection was there is marked as historical.
        """
        while (result := self._queue.take_nowait()) is not None:
            message = self._message(result, connected_mono_ns)
            if message is not None:
                return message
        return None

    def renewed(self, message: Message, connected_mono_ns: int) -> Message:
        """Return the message encoded again: it is historical by now, and published later."""
        if message.result is None:
            return message
        payload = self._encode(message.result, connected_mono_ns)
        return msgspec.structs.replace(message, payload=payload or message.payload)

    @property
    def is_finished(self) -> bool:
        """The queue is closed and empty."""
        return self._queue.is_finished

    def discard(self) -> None:
        """Drop what waits, counted as `closed`."""
        self._queue.discard()

    def handed_over(self, message: Message) -> None:
        """Count as sent, with its latency."""
        if message.result is not None:
            self._counts.add_sent([message.result.captured_mono_ns])

    def acknowledged(self, message: Message) -> None:
        """Count the broker's yes."""
        self._counts.acknowledged += 1

    def refused(self, message: Message, why: str) -> None:
        """Count the broker's no."""
        self._counts.refused += 1
        self._complaint.raised(f"the broker refuses {message.topic}: {why}")

    def too_large(self, message: Message, limit_bytes: int) -> None:
        """Count as dropped."""
        self._counts.dropped.add("too_large")
        self._complaint.raised(f"a result of {len(message.payload)} bytes is over the broker's {limit_bytes}")

    def _message(self, result: Result, connected_mono_ns: int) -> Message | None:
        try:
            topic = _topic(self._prefix, result.source, result.model)
        except ConfigError as error:
            self._counts.failed += 1
            self._complaint.raised(str(error))
            return None
        payload = self._encode(result, connected_mono_ns)
        return None if payload is None else Message(topic, payload, self._qos, result=result)

    def _encode(self, result: Result, connected_mono_ns: int) -> bytes | None:
        return self._encoder.encode(result, historical=result.captured_mono_ns < connected_mono_ns)


@lru_cache(1024)
def _topic(prefix: str, source: str, model: str) -> str:
    """Return the topic of a result. Raises ConfigError for a name that cannot be a level of a topic."""
    topics.check_name(source, "source")
    topics.check_name(model, "model")
    return prefix + topics.result(source, model)
