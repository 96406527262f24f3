"""Keeps a subscription alive: the first connect has to succeed, what breaks later is made again."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial

import msgspec

from edgert.errors import ConfigError, EdgertError, SinkError
from edgert.listen.subscription import QOS, Ear, subscribe
from edgert.publish.backoff import Backoff
from edgert.publish.known_broker import KnownBroker, accepted
from edgert.publish.reasons import CredentialsRefusedError, TlsFailedError
from edgert.publish.session import Attempt, BrokerRefusedError, Message, Received
from edgert.publish.waker import Waker

RETRY_MIN_S = 0.5
RETRY_MAX_S = 10.0  # a person waits
ANSWER_TIMEOUT_S = 5.0  # for the broker's word on CONNECT
NO_WILL = Message("", b"")
HINT = (
    "Is a broker running there, and does it listen on this address? "
    "Another one: edgert listen --host HOST --port PORT"
)

MakeEar = Callable[[Attempt], Ear]  # not connected yet


class LinkState(msgspec.Struct, frozen=True):
    """How the connection is."""

    is_connected: bool
    text: str  # for people


class Link:
    """One connection after the other, to the first broker that accepts, in the best version that it takes.

    `on_state` hears of every change. `user` is what brokers know us as.
    """

    def __init__(
        self,
        brokers: Sequence[KnownBroker],
        filters: Sequence[str],
        user: str | None,
        make: MakeEar,
        on_state: Callable[[LinkState], None],
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._brokers = brokers
        self._filters = [*filters]
        self._user = user
        self._make = make
        self._on_state = on_state
        self._mono_ns = mono_ns
        self._due_ns = 0  # for the next attempt
        self._ear: Ear | None = None
        self._end: EdgertError | None = None  # of the connection, whose last messages come first
        self._backoff = Backoff(RETRY_MIN_S, RETRY_MAX_S)
        self._last_text = ""

    def open(self) -> None:
        """Connect for the first time.

        Raises:
            SinkError: no broker can be reached, or accepts; the message says what to try.
            ConfigError: one refuses the credentials, or a secret or certificate cannot be read.
        """
        try:
            self._connect()
        except SinkError as error:
            is_clear = isinstance(error.__cause__, BrokerRefusedError | TlsFailedError)
            raise SinkError(f"{error}{'' if is_clear else f'. {HINT}'}") from error

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Return what has arrived within the time, nothing while the broker is away. Does not raise."""
        ear = self._ear
        if ear is None:
            self._try_again(wake, timeout_s)
            return []
        received = ear.take_received()  # with the broker's answer
        if not received:
            self._end = self._end or _fault(ear, wake, timeout_s)
            received = ear.take_received()
        if received:
            self._backoff.reset()
        elif self._end is not None:
            self._plan(f"connection lost: {self._end}")
            self.close()
        return received

    def add_filter(self, topic_filter: str) -> None:
        """Subscribe to this too, on this connection and later ones. A refusal is not told."""
        self._filters.append(topic_filter)
        if self._ear is not None:
            self._ear.subscribe([topic_filter], QOS)

    def remove_filter(self, topic_filter: str) -> None:
        """Subscribe to this no more."""
        self._filters.remove(topic_filter)
        if self._ear is not None:
            self._ear.unsubscribe(topic_filter)

    def close(self) -> None:
        """End the connection."""
        ear, self._ear, self._end = self._ear, None, None
        if ear is not None:
            _hang_up(ear)

    def _try_again(self, wake: int, timeout_s: float) -> None:
        """Wait, and connect when its time has come."""
        left_s = (self._due_ns - self._mono_ns()) / 1e9
        if left_s > 0:
            poll = select.poll()
            poll.register(wake, select.POLLIN)
            poll.poll(min(left_s, timeout_s) * 1000)
            return
        try:
            self._connect()
        except EdgertError as error:
            self._plan(f"no connection: {error}")

    def _plan(self, text: str) -> None:
        """Connect again after a while."""
        self._due_ns = self._mono_ns() + int(self._backoff.next_s() * 1e9)
        if text != self._last_text:
            self._last_text = text
            self._on_state(LinkState(False, text))

    def _connect(self) -> None:
        said = []
        for broker in self._brokers:
            try:
                self._ear = broker.ask(partial(self._connect_as, broker))
            except CredentialsRefusedError as error:
                raise ConfigError(f"{broker.title} {error}") from error
            except SinkError as error:
                said.append(f"{broker.title} {error}")
                last = error
            else:
                return
        raise SinkError("; ".join(said)) from last

    def _connect_as(self, broker: KnownBroker, version: str) -> Ear:
        attempt = Attempt(version, broker.host, broker.port, NO_WILL)
        with ExitStack() as undo:
            ear = accepted(self._make(attempt), Waker(), ANSWER_TIMEOUT_S, self._mono_ns)
            undo.callback(_hang_up, ear)
            refused = subscribe(ear, self._filters, self._user, self._mono_ns)
            undo.pop_all()
        self._last_text = ""
        denied = f"; it does not let us read {', '.join(refused)}" if refused else ""
        self._on_state(LinkState(True, f"connected to {broker.title} with MQTT {version}{denied}"))
        return ear


def _fault(ear: Ear, wake: int, timeout_s: float) -> EdgertError | None:
    """Receive; return why the connection has ended, if it has."""
    try:
        ear.pump(wake, timeout_s)
    except EdgertError as error:
        return error
    return None


def _hang_up(ear: Ear) -> None:
    with suppress(SinkError):  # nobody is left to say it to
        ear.say_goodbye()
    ear.close()
