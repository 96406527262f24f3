"""A broker without a network: it hands out Sessions and does what the test tells it."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

from edgert.errors import SinkError
from edgert.publish.session import Attempt, BrokerRefusedError, Limits, Message, Received, Settled
from edgert.publish.waker import Waker

TIMEOUT_S = 10.0


class FakeBroker:
    """`open_session` is what a MqttConnection asks for. Tests change the attributes at any time."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.is_up = True
        self.absent: set[str] = set()  # hosts that cannot be reached
        self.answers: dict[str, Exception | None] = {}  # by version or host; None: never answers
        self.limits = Limits(inflight=20)
        self.acknowledges = True
        self.refusals: dict[str, str] = {}  # by topic
        self.refused_filters: dict[str, str] = {}  # why, by topic filter
        self.attempts: list[str] = []  # versions, in order,
        self.hosts: list[str] = []  # and the hosts that were asked,
        self.wills: list[Message] = []  # and what they were to say
        self.subscriptions: list[str] = []  # topic filters, in order
        self.received: list[Message] = []  # in order
        self.retained: dict[str, bytes] = {}
        self.corks: list[tuple[bool, list[bytes]]] = []  # each word on it, and what was received by then
        self.pumps: list[float] = []  # how long each was to wait, once connected
        self.goodbyes = 0
        self.session: FakeSession | None = None  # the one that is connected

    def open_session(self, attempt: Attempt) -> FakeSession:
        return FakeSession(self, attempt)

    def wait_for(self, wanted: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(wanted, TIMEOUT_S), f"received so far: {self.payloads()}"

    def wait_payloads(self, *payloads: bytes) -> None:
        """Wait until these, and no others, have arrived in this order."""
        self.wait_for(lambda: len(self.received) >= len(payloads))
        assert self.payloads() == list(payloads)

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.received]

    def go_down(self) -> None:
        """End the connection and accept no other."""
        self.is_up = False
        self.break_off()

    def break_off(self, error: Exception | None = None) -> None:
        """End the connection."""
        with self.changed:
            session, self.session = self.session, None
        if session is not None:
            session.error = error or SinkError("the connection was lost")
            session.events.wake()

    def deliver(self, topic: str, payload: bytes = b"", **fields: object) -> None:
        """Send a message to the one that is connected, whatever it has subscribed to."""
        session = self.session
        session.arrived.append(Received(topic, payload, **fields))
        session.events.wake()

    def acknowledge(self) -> None:
        """Take all that is in flight, now and from now on."""
        self.acknowledges = True
        if self.session is not None:
            self.session.events.wake()

    def block(self, is_blocked: bool) -> None:
        """Let the network take nothing more, or everything again."""
        session = self.session
        session.is_blocked = is_blocked
        session.events.wake()


class FakeSession:
    """A Session without a network."""

    open_count = 0  # tests demand that it returns to what it was

    def __init__(self, broker: FakeBroker, attempt: Attempt) -> None:
        self.limits = Limits(inflight=20)
        self.is_connected = False
        self.version = attempt.version
        self.host = attempt.host
        self.will = attempt.will
        self.arrived: list[Received] = []
        self.events = Waker()
        self.error: Exception | None = None
        self.is_blocked = False
        self._broker = broker
        self._inflight: list[Message] = []
        self._settled: list[Settled] = []
        self._refused_filters: list[tuple[str, str]] = []
        self._is_parting = False
        self._is_open = False

    def connect(self) -> None:
        with self._broker.changed:
            self._broker.attempts.append(self.version)
            self._broker.hosts.append(self.host)
            self._broker.wills.append(self.will)
            self._broker.changed.notify_all()
        if not self._broker.is_up or self.host in self._broker.absent:
            raise SinkError("cannot be reached: Connection refused")
        self.events.open()
        self._is_open = True
        FakeSession.open_count += 1

    def pump(self, wake: int, timeout_s: float) -> None:
        if self.is_connected:
            with self._broker.changed:
                self._broker.pumps.append(timeout_s)
                self._broker.changed.notify_all()
        if self.is_connected or self._broker_says() is None:
            select.select([wake, self.events.fileno()], [], [], timeout_s)
        self.events.clear()
        if self._is_parting:
            return
        if not self.is_connected:
            self._answer()
        if self.error is not None:
            raise self.error
        self._acknowledge()

    def has_room(self, qos: int) -> bool:
        is_free = qos == 0 or len(self._inflight) < self.limits.inflight
        return is_free and self.is_connected and not self.is_blocked and self.error is None

    def publish(self, message: Message) -> None:
        if message.qos:
            self._inflight.append(message)
        with self._broker.changed:
            self._broker.received.append(message)
            if message.is_retained:
                self._broker.retained[message.topic] = message.payload
            self._broker.changed.notify_all()
        self.events.wake()  # an acknowledgement may be due

    def subscribe(self, filters) -> None:
        refusals = self._broker.refused_filters
        self._refused_filters += [(wanted, refusals[wanted]) for wanted in filters if wanted in refusals]
        with self._broker.changed:
            self._broker.subscriptions.extend(filters)
            self._broker.changed.notify_all()
        if filters:
            self.events.wake()  # the answer is due

    def take_received(self) -> list[Received]:
        arrived, self.arrived = self.arrived, []
        return arrived

    def take_refused_filters(self) -> list[tuple[str, str]]:
        refused, self._refused_filters = self._refused_filters, []
        return refused

    def cork(self, *, is_corked):
        """Nothing is collected here."""
        self._broker.corks.append((is_corked, self._broker.payloads()))

    def take_settled(self) -> list[Settled]:
        settled, self._settled = self._settled, []
        return settled

    def unfinished(self) -> list[Message]:
        return list(self._inflight)

    def say_goodbye(self) -> None:
        self._is_parting = True
        with self._broker.changed:
            self._broker.goodbyes += 1
            self._broker.changed.notify_all()

    def is_over(self) -> bool:
        return self._is_parting

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self.events.close()
            FakeSession.open_count -= 1

    def _broker_says(self) -> Exception | bool | None:
        answers = self._broker.answers
        return answers.get(self.host, answers.get(self.version, True))

    def _answer(self) -> None:
        answer = self._broker_says()
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            self.limits = self._broker.limits
            self.is_connected = True
            with self._broker.changed:
                self._broker.session = self
                self._broker.changed.notify_all()

    def _acknowledge(self) -> None:
        if not self._broker.acknowledges:
            return
        with self._broker.changed:
            for message in self._inflight:
                self._settled.append(Settled(message, self._broker.refusals.get(message.topic)))
            self._inflight.clear()
            self._broker.changed.notify_all()


def refusal(**flags: bool) -> BrokerRefusedError:
    return BrokerRefusedError("refused the connection", **flags)
