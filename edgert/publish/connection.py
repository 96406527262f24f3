"""Keeps a connection to an MQTT broker alive, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from edgert.errors import EdgertError
from edgert.publish import topics
from edgert.publish.backoff import Backoff
from edgert.publish.complaint import Complaint
from edgert.publish.options import MqttOptions
from edgert.publish.outbox import Outbox
from edgert.publish.queued import DeliveryThread
from edgert.publish.session import BrokerRefusedError, Feed, Message, Session
from edgert.publish.sink import NodeState
from edgert.publish.waker import Waker
from edgert.stats import Tally

log = logging.getLogger(__name__)

OpenSession = Callable[[str], Session]  # from a version of MQTT, "5" or "3.1.1"

ANSWER_TIMEOUT_S = 5.0  # for the broker's word on CONNECT
LOOK_UP_S = 0.5  # how often a quiet connection looks after keep-alive and deadlines
HEADER_BYTES = 32  # more than a PUBLISH has around topic and payload
GOODBYE_SHARE = 0.2  # of the closing time is kept for saying `disconnected`,
GOODBYE_MAX_S = 1.0  # but not more than this
SUSPICIOUS = 3  # short connections in a row
LAST_WORD_S = 0.25  # for DISCONNECT, where time is up already
GOODBYE = b"disconnected"


class MqttConnection:
    """An Announcer, and the way out for a feed's results.

    One thread connects, reconnects, publishes and receives; all others only queue and wake it. After
    each connect it sends the retained values again, `state` as the last.
    """

    def __init__(
        self,
        name: str,
        prefix: str,
        options: MqttOptions,
        open_session: OpenSession,
        feed: Feed,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._name = name
        self._prefix = prefix
        self._open_session = open_session
        self._feed = feed
        self._mono_ns = mono_ns
        self._versions = ["5", "3.1.1"] if options.protocol == "auto" else [options.protocol]
        self._accepted: set[str] = set()
        self._backoff = Backoff(options.retry_min_s, options.retry_max_s)
        self._steady_ns = int(options.retry_max_s * 1e9)
        self._short_lived = 0  # connections in a row that ended before they were steady
        host, port = options.address
        self._complaint = Complaint(log, f"Sink {name}: MQTT broker {host}:{port}")
        self._outbox = Outbox(prefix + topics.STATE)
        self._waker = Waker()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._results_deadline_ns = 0  # both are valid once closing
        self._deadline_ns = 0
        self.is_connected = False
        self.counts = Tally()  # connected; failed: attempts, and connections that ended

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

    def publish_retained(self, suffix: str, payload: bytes) -> None:
        """Retain `payload` below the node's prefix, now and after every reconnect; empty removes it."""
        self._outbox.retain(self._prefix + suffix, payload)
        self._waker.wake()

    def publish(self, suffix: str, payload: bytes) -> None:
        """Publish once, below the node's prefix. Dropped and counted while the broker is away."""
        self._outbox.announce(self._prefix + suffix, payload)
        self._waker.wake()

    def close(self, timeout_s: float) -> None:
        """Deliver what the feed has, say `disconnected`, and end, all within `timeout_s`.

        The feed must take in no more by now. Where there is no connection, one more attempt is made. An
        attempt that blocks may outlive this call, by `mqtt.CONNECT_TIMEOUT_S` at most.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._deadline_ns = self._mono_ns() + int(timeout_s * 1e9)
        goodbye_s = min(GOODBYE_MAX_S, timeout_s * GOODBYE_SHARE)
        self._results_deadline_ns = self._deadline_ns - int(goodbye_s * 1e9)
        self._closing.set()
        self._waker.wake()
        thread.join(timeout_s + LOOK_UP_S)
        if thread.is_alive():
            log.warning("Sink %s: an attempt to connect still blocks; its thread ends by itself", self._name)

    def _run(self) -> None:
        is_done = False
        try:
            while not is_done:
                is_last = self._closing.is_set()  # after `close`, one more attempt is due
                is_done = self._attempt() or is_last or self._is_late()
                self._closing.wait(0.0 if is_done else self._backoff.next_s())
        finally:
            self._feed.discard()
            self._waker.close()
            DeliveryThread.live.closed()

    def _is_late(self) -> bool:
        return self._closing.is_set() and self._mono_ns() >= self._deadline_ns

    def _attempt(self) -> bool:
        """Connect and publish; True if that ended because it was asked to."""
        try:
            self._serve(self._connect())
        except BrokerRefusedError as error:
            self._complain(error)
            if error.is_final:
                self._backoff.exhaust()
        except EdgertError as error:
            self._complain(error)
        except Exception:  # publishing must not end because of a fault in the client library
            log.exception("Sink %s: unexpected failure of the MQTT client", self._name)
        else:
            return True
        return False

    def _complain(self, error: EdgertError) -> None:
        self.counts.add("failed")
        hint = "; does another client use the same client_id?" if self._short_lived >= SUSPICIOUS else ""
        self._complaint.raised(f"{error}{hint}")

    def _connect(self) -> Session:
        """Return a session that the broker has accepted, in the best version that it is known to speak."""
        *versions, last = self._versions
        for version in versions:
            try:
                return self._connect_as(version)
            except BrokerRefusedError as error:
                if not error.try_other_version:
                    raise
                log.debug("Sink %s: no MQTT %s: %s", self._name, version, error)
        return self._connect_as(last)

    def _connect_as(self, version: str) -> Session:
        session = self._open_session(version)
        with ExitStack() as undo:
            undo.callback(session.close)
            session.connect()
            self._await_answer(session)
            undo.pop_all()
        self._accepted.add(version)
        best = "5" if "5" in self._accepted else version
        self._versions.sort(key=best.__ne__)
        log.info("Sink %s: connected with MQTT %s", self._name, version)
        return session

    def _await_answer(self, session: Session) -> None:
        deadline_ns = self._mono_ns() + int(ANSWER_TIMEOUT_S * 1e9)
        while not session.is_connected:
            self._waker.clear()
            if self._closing.is_set():
                deadline_ns = min(deadline_ns, self._deadline_ns)
            if self._mono_ns() >= deadline_ns:
                # Some brokers that speak 3.1.1 only read MQTT 5 as the beginning of something longer.
                raise BrokerRefusedError("did not answer", try_other_version=True)
            session.pump(self._waker.fileno(), min(LOOK_UP_S, self._remaining_s(deadline_ns)))

    def _serve(self, session: Session) -> None:
        """Publish until closing is complete. Raises SinkError when the connection ends before."""
        connected_ns = self._mono_ns()
        self._outbox.connected()
        self.is_connected = True
        self.counts.add("connected")
        try:
            self._exchange(session, connected_ns)
            self._part(session)
        finally:
            self.is_connected = False
            self._settle(session)  # what came in before the connection ended
            self._keep(session.unfinished())
            session.close()
            self._judge(self._mono_ns() - connected_ns)

    def _exchange(self, session: Session, connected_ns: int) -> None:
        while not self._is_all_said(session):
            self._fill(session, connected_ns)
            session.pump(self._waker.fileno(), self._patience_s())
            self._settle(session)
            self._waker.clear()  # before looking at anything: a later `wake` is seen by the next pump

    def _judge(self, lasted_ns: int) -> None:
        """Begin with short pauses only if the connection lasted: clients of one id end each other's."""
        self._short_lived += 1
        if lasted_ns >= self._steady_ns:
            self._short_lived = 0
            self._backoff.reset()
            self._complaint.forget()

    def _fill(self, session: Session, connected_ns: int) -> None:
        while session.has_room(qos=1):
            message = self._next_message(connected_ns)
            if message is None:
                return
            self._publish(session, message)

    def _next_message(self, connected_ns: int) -> Message | None:
        message = self._outbox.take()
        if message is None:
            return self._feed.next_message(connected_ns)
        return message if message.result is None else self._feed.renewed(message, connected_ns)

    def _publish(self, session: Session, message: Message) -> None:
        is_result = message.result is not None
        limits = session.limits
        if len(message.topic) + len(message.payload) + HEADER_BYTES > limits.packet_bytes:
            if is_result:
                self._feed.too_large(message, limits.packet_bytes)
            return
        message.qos = min(message.qos, limits.qos)
        session.publish(message)
        if is_result and not message.is_counted:
            message.is_counted = True
            self._feed.handed_over(message)

    def _settle(self, session: Session) -> None:
        for settled in session.take_settled():
            if settled.message.result is None:
                if settled.refusal:
                    log.warning("Sink %s: %s refused: %s", self._name, settled.message.topic, settled.refusal)
            elif settled.refusal is None:
                self._feed.acknowledged(settled.message)
            else:
                self._feed.refused(settled.message, settled.refusal)

    def _is_all_said(self, session: Session) -> bool:
        """Once closing: say `disconnected` when all results are out or out of time; wait for the ack."""
        if not self._closing.is_set():
            return False
        if self._mono_ns() >= self._results_deadline_ns:
            self._feed.discard()
        if not self._feed.is_finished:
            return False
        if self._outbox.retained(self._prefix + topics.STATE) != GOODBYE:
            self._outbox.retain(self._prefix + topics.STATE, GOODBYE)
        return self._is_acknowledged(session) or self._mono_ns() >= self._deadline_ns

    def _is_acknowledged(self, session: Session) -> bool:
        return self._outbox.is_empty and not session.unfinished()

    def _part(self, session: Session) -> None:
        """Disconnect cleanly, so that the broker forgets the will."""
        if not self._is_acknowledged(session) and session.has_room(qos=0):
            session.publish(Message(self._prefix + topics.STATE, GOODBYE, is_retained=True))
        session.say_goodbye()
        deadline_ns = max(self._deadline_ns, self._mono_ns() + int(LAST_WORD_S * 1e9))
        while not session.is_over() and self._mono_ns() < deadline_ns:
            self._waker.clear()
            session.pump(self._waker.fileno(), self._remaining_s(deadline_ns))

    def _keep(self, unfinished: list[Message]) -> None:
        given_up = self._outbox.disconnected(unfinished)
        if given_up is not None and given_up.result is not None:
            self._feed.refused(given_up, "every connection that carried it broke")

    def _patience_s(self) -> float:
        """How long to wait for news; sending and receiving end the wait."""
        if not self._closing.is_set():
            return LOOK_UP_S
        next_ns = self._results_deadline_ns if not self._feed.is_finished else self._deadline_ns
        return min(LOOK_UP_S, self._remaining_s(next_ns))

    def _remaining_s(self, deadline_ns: int) -> float:
        return max(0.0, (deadline_ns - self._mono_ns()) / 1e9)
