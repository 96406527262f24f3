"""Keeps a subscription alive: the first connect has to succeed, what breaks later is made again."""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

import msgspec

from edgert.errors import EdgertError, SinkError
from edgert.publish.backoff import Backoff
from edgert.publish.options import shown_address
from edgert.publish.session import BrokerRefusedError, Received

RETRY_MIN_S = 0.5
RETRY_MAX_S = 10.0  # a person waits
HINT = (
    "Is a broker running there, and does it listen on this address? "
    "Another one: edgert listen --host HOST --port PORT"
)


class Ear(Protocol):
    """What `subscription.Subscription` is."""

    refused_filters: list[str]

    def open(self, filters: Sequence[str]) -> None:
        """Connect and subscribe."""

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Wait for the network or for descriptor `wake`, and return what has arrived."""

    def close(self) -> None:
        """End."""


MakeEar = Callable[[str, int, str], Ear]  # from host, port and version; not open yet


class LinkState(msgspec.Struct, frozen=True):
    """How the connection is."""

    is_connected: bool
    text: str  # for people


class Broker(msgspec.Struct):
    """One that may be asked; `versions` of MQTT, the best guess first."""

    host: str
    port: int
    versions: list[str]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"MQTT broker {shown_address(self.host, self.port)}"


class Link:
    """One connection after the other, to the first broker that accepts, in the best version that it takes.

    `on_state` hears of every change.
    """

    def __init__(
        self,
        brokers: Sequence[Broker],
        filters: Sequence[str],
        make: MakeEar,
        on_state: Callable[[LinkState], None],
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._brokers = brokers
        self._filters = filters
        self._make = make
        self._on_state = on_state
        self._mono_ns = mono_ns
        self._due_ns = 0  # for the next attempt
        self._ear: Ear | None = None
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
            cause = error.__cause__
            is_clear = isinstance(cause, BrokerRefusedError) or isinstance(
                cause and cause.__cause__, ssl.SSLError
            )
            raise SinkError(f"{error}{'' if is_clear else f'. {HINT}'}") from error

    def pump(self, wake: int, timeout_s: float) -> list[Received]:
        """Return what has arrived within the time, nothing while the broker is away. Does not raise."""
        if self._ear is None:
            self._try_again(wake, timeout_s)
            return []
        try:
            received = self._ear.pump(wake, timeout_s)
        except EdgertError as error:
            self.close()
            self._plan(f"connection lost: {error}")
            return []
        if received:
            self._backoff.reset()
        return received

    def close(self) -> None:
        """End the connection."""
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.close()

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
                return self._connect_to(broker)
            except SinkError as error:
                said.append(f"{broker.title} {error}")
                last = error
        raise SinkError("; ".join(said)) from last

    def _connect_to(self, broker: Broker) -> None:
        *versions, last = broker.versions
        for version in versions:
            try:
                return self._connect_as(broker, version)
            except BrokerRefusedError as error:
                if not error.try_other_version:
                    raise
        return self._connect_as(broker, last)

    def _connect_as(self, broker: Broker, version: str) -> None:
        ear = self._make(broker.host, broker.port, version)
        with ExitStack() as undo:
            undo.callback(ear.close)
            ear.open(self._filters)
            undo.pop_all()
        self._ear = ear
        self._last_text = ""
        broker.versions.sort(key=version.__ne__)
        denied = f"; it does not let us read {', '.join(ear.refused_filters)}" * bool(ear.refused_filters)
        self._on_state(LinkState(True, f"connected to {broker.title} with MQTT {version}{denied}"))
