"""Keeps a connection to an MQTT broker alive, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edgert.errors import EdgertError
from edgert.publish import topics
from edgert.publish.backoff import Backoff
from edgert.publish.closing import Closing
from edgert.publish.connector import LOOK_UP_S, Connector, OpenSession
from edgert.publish.dialect import Dialect
from edgert.publish.listeners import Listeners, OnMessage
from edgert.publish.options import MqttOptions
from edgert.publish.outbox import Outbox, survivors
from edgert.publish.publisher import Publisher
from edgert.publish.queued import DeliveryThread
from edgert.publish.session import BrokerRefusedError, Feed, Message, Received, Session
from edgert.publish.sink import NodeState
from edgert.publish.waker import Waker

log = logging.getLogger(__name__)

SUSPICIOUS = 3  # short connections in a row
LAST_WORD_S = 0.25  # for DISCONNECT, where time is up already


class MqttConnection:
    """An Announcer, the way out for a feed's results, and the way in for commands.

    One thread connects, reconnects, publishes and receives; all others only queue and wake it. After
    each connect it asks for the topics that somebody listens to, and sends the dialect's greeting, then
    the retained values again, `state` as the last.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        options: MqttOptions,
        open_session: OpenSession,
        feed: Feed,
        dialect: Dialect,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._name = name
        self._prefix = prefix
        self._feed = feed
        self._dialect = dialect
        self._mono_ns = mono_ns
        self._closing = Closing(mono_ns)
        self._waker = Waker()
        self._connector = Connector(
            name, options, open_session, self._dialect.will, self._closing, self._waker, mono_ns
        )
        self._backoff = Backoff(options.retry_min_s, options.retry_max_s)
        self._steady_ns = int(options.retry_max_s * 1e9)
        self._short_lived = 0  # connections in a row that ended before they were steady
        self._outbox = Outbox(prefix + topics.STATE)
        self._farewell: Message | None = None  # once it is due on this connection
        self._thread: threading.Thread | None = None
        self.is_connected = False
        self.turns = 0  # of its thread, while it is connected
        self.has_parted = False  # it was connected until it was asked to end
        self.counts = self._connector.counts  # connected, failed, listener_failed
        self.dropped = self._outbox.counts  # announcements and answers, by reason
        self._listeners = Listeners(name, self.counts)
        for topic_filter in self._dialect.subscriptions:
            self._listeners.add(topic_filter, self._reply)

    def open(self) -> None:
        """Start to connect. Returns at once; an absent broker is no error."""
        self._waker.open()
        self._thread = threading.Thread(target=self._run, name=f"publish:{self._name}", daemon=True)
        DeliveryThread.live.opened()
        self._thread.start()

    def wake(self) -> None:
        """Say that the feed has something. Any thread."""
        self._waker.wake()

    def publish_state(self, state: NodeState) -> None:
        """Retain the node's state."""
        self.publish_retained(topics.STATE, state.encode())

    def publish_retained(self, suffix: str, payload: bytes, *, newest_only: bool = False) -> None:
        """Retain `payload` below the node's prefix, now and after every reconnect; empty removes it.

        `newest_only`: it may take the place of an earlier one that still waits. Like states and
        announcements, left out where the dialect has no place for it.
        """
        if self._dialect.announces:
            self._outbox.retain(self._prefix + suffix, payload, newest_only=newest_only)
            self._waker.wake()

    def publish_birth(self, make: Callable[[int], bytes]) -> None:
        """Retain the node's birth, made anew for each connection from its number, the first being 1."""
        if self._dialect.announces:
            self._outbox.retain_each(self._prefix + topics.BIRTH, make)
            self._waker.wake()

    def publish(self, suffix: str, payload: bytes) -> None:
        """Publish once, below the node's prefix. Dropped and counted while the broker is away."""
        if self._dialect.announces:
            self._outbox.announce(Message(self._prefix + suffix, payload))
            self._waker.wake()

    def answer(self, topic: str, payload: bytes, correlation: bytes = b"") -> None:
        """Publish once, with QoS 1, at a complete topic. Dropped and counted while the broker is away."""
        self._outbox.announce(Message(topic, payload, qos=1, correlation=correlation, is_kept=True))
        self._waker.wake()

    def describe(self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]) -> None:
        """Say which models each source has, and which labels each detector, to those that show it."""
        for message in self._dialect.described(sources, labels):
            self._outbox.announce(message)
        self._waker.wake()

    def listen(self, suffix: str, on_message: OnMessage) -> None:
        """Hand what arrives at a topic filter below the node's prefix to `on_message`; see `listen_to`."""
        self.listen_to(self._prefix + suffix, on_message)

    def listen_to(self, topic_filter: str, on_message: OnMessage) -> None:
        """Hand what arrives at a topic filter to `on_message`, on this connection and all later ones.

        Any thread, at any time. `on_message` runs on the connection's thread; what it raises is logged and
        counted. Filters should not overlap: some brokers send a message once for each.
        """
        self._listeners.add(topic_filter, on_message)
        self._waker.wake()

    def close(self, timeout_s: float) -> None:
        """Deliver what the feed has, say the dialect's farewell, and end, all within `timeout_s`.

        The feed must take in no more by now. Where there is no connection, one more attempt is made. An
        attempt that blocks may outlive this call, by `mqtt.CONNECT_TIMEOUT_S` at most.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._closing.begin(timeout_s)
        self._waker.wake()
        thread.join(timeout_s + LOOK_UP_S)
        if thread.is_alive():
            log.warning("Sink %s: an attempt to connect still blocks; its thread ends by itself", self._name)

    def _run(self) -> None:
        is_done = False
        try:
            while not is_done:
                is_last = self._closing.is_begun  # after `close`, one more attempt is due
                is_done = self._attempt() or is_last or self._closing.is_late()
                self._closing.wait(0.0 if is_done else self._backoff.next_s())
        finally:
            self._feed.discard()
            self._waker.close()
            DeliveryThread.live.closed()

    def _attempt(self) -> bool:
        """Connect and publish; True if that ended because it was asked to."""
        try:
            self._serve(self._connector.connect())
        except EdgertError as error:
            hint = "; does another client use the same client_id?" if self._short_lived >= SUSPICIOUS else ""
            self._connector.complain(error, hint)
            if isinstance(error, BrokerRefusedError) and error.is_final:
                self._backoff.exhaust()
        except Exception:  # publishing must not end because of a fault in the client library
            log.exception("Sink %s: unexpected failure of the MQTT client", self._name)
        else:
            self.has_parted = True
        return self.has_parted

    def _serve(self, session: Session) -> None:
        """Publish until closing is complete. Raises SinkError when the connection ends before."""
        connected_ns = self._mono_ns()
        publisher = Publisher(self._name, session, self._outbox, self._feed)
        self._farewell = None
        self._listeners.connected()
        self.is_connected = True
        try:
            self._outbox.connected(self._dialect.greeting)
            self._feed.connected(connected_ns, session.limits.inflight)
            self._exchange(session, publisher)
            self._part(session, publisher)
        finally:
            self.is_connected = False
            publisher.settle()  # what came in before the connection ended
            self._hear(session)
            lasted_ns = self._mono_ns() - connected_ns
            self._keep(session.unfinished(), lasted_ns / 1e9)
            session.close()
            self._judge(lasted_ns)

    def _exchange(self, session: Session, publisher: Publisher) -> None:
        while not self._is_all_said(publisher):
            self.turns += 1
            session.subscribe(self._listeners.take_due())
            publisher.publish()
            if self._farewell is None:
                publisher.publish_stored()
            session.pump(self._waker.fileno(), self._patience_s(publisher))
            publisher.settle()
            self._hear(session)
            self._waker.clear()  # before looking at anything: a later `wake` is seen by the next pump

    def _judge(self, lasted_ns: int) -> None:
        """Begin with short pauses only if the connection lasted: clients of one id end each other's."""
        self._short_lived += 1
        if lasted_ns >= self._steady_ns:
            self._short_lived = 0
            self._backoff.reset()
            self._connector.broker.complaint.forget()

    def _hear(self, session: Session) -> None:
        for received in session.take_received():
            self._listeners.hear(received)
        for topic_filter, why in session.take_refused_filters():
            text = "Sink %s: the broker refuses to send %s: %s (check its access list)"
            log.warning(text, self._name, topic_filter, why)

    def _reply(self, received: Received) -> None:
        for message in self._dialect.received(received):
            self._outbox.announce(message)

    def _is_all_said(self, publisher: Publisher) -> bool:
        """Once closing: say farewell when all results are out or out of time; wait for the ack."""
        if not self._closing.is_begun:
            return False
        is_late = self._closing.is_late_for_results()
        if is_late:
            self._feed.discard()
        if self._farewell is None:
            if not self._feed.is_finished or not (is_late or self._outbox.is_empty):
                return False
            self._farewell = self._dialect.farewell()
            self._outbox.announce(self._farewell)
        return publisher.is_acknowledged() or self._closing.is_late()

    def _part(self, session: Session, publisher: Publisher) -> None:
        """Disconnect cleanly, so that the broker forgets the will."""
        farewell = self._farewell
        if farewell is not None and not publisher.is_acknowledged() and session.has_room(qos=0):
            session.publish(msgspec.structs.replace(farewell, qos=0))
        session.say_goodbye()
        deadline_ns = self._closing.extended_ns(LAST_WORD_S)
        while not session.is_over() and self._mono_ns() < deadline_ns:
            self._waker.clear()
            session.pump(self._waker.fileno(), max(0.0, (deadline_ns - self._mono_ns()) / 1e9))

    def _keep(self, unfinished: list[Message], lasted_s: float) -> None:
        """Let the feed keep its results, and the outbox everything else."""
        again, given_up = survivors(unfinished, lasted_s)
        if given_up is not None and given_up.ticket is not None:
            self._feed.refused(given_up, "every connection that carried it broke")
        elif given_up is not None:
            self.dropped.add("given_up")
        self._feed.take_back([message for message in again if message.ticket is not None])
        self._outbox.disconnected([message for message in again if message.ticket is None])

    def _patience_s(self, publisher: Publisher) -> float:
        """How long to wait for news; sending and receiving end the wait."""
        due_s = publisher.stored_due_s() if self._farewell is None else None
        longest_s = LOOK_UP_S if due_s is None else min(due_s, LOOK_UP_S)
        return self._closing.patience_s(longest_s, for_results=not self._feed.is_finished)
