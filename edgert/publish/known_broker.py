"""One broker of a list: asking it for a connection, in the versions of MQTT that it may speak."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol, TypeVar

from edgert.publish.options import shown_address
from edgert.publish.session import BrokerRefusedError
from edgert.publish.waker import Waker

log = logging.getLogger(__name__)

LOOK_UP_S = 0.5  # how often a quiet connection looks after keep-alive and deadlines


class Connecting(Protocol):
    """The part of a session that connects; see `session.Session`."""

    is_connected: bool

    def connect(self) -> None:
        """Open the network connection and ask the broker. Raises SinkError, ConfigError."""

    def pump(self, wake: int, timeout_s: float) -> None:
        """Wait for the network or for descriptor `wake`. Raises SinkError."""

    def close(self) -> None:
        """End the network connection at once."""


S = TypeVar("S", bound=Connecting)


class KnownBroker:
    """A broker, and what is known about it."""

    def __init__(self, host: str, port: int, protocol: str) -> None:
        self.host = host
        self.port = port
        self.title = f"MQTT broker {shown_address(host, port)}"
        self.versions = ["5", "3.1.1"] if protocol == "auto" else [protocol]  # the best guess first
        self._accepted: set[str] = set()

    def ask(self, connect_as: Callable[[str], S]) -> S:
        """Return what `connect_as` returns for the first version that the broker takes, and remember that.

        Raises:
            BrokerRefusedError: it does not accept, in the last version that was tried.
            SinkError, ConfigError: those of `connect_as`.
        """
        *versions, last = self.versions
        for version in versions:
            try:
                return self._ask_in(version, connect_as)
            except BrokerRefusedError as error:
                if not error.try_other_version:
                    raise
                log.debug("%s: no MQTT %s: %s", self.title, version, error)
        return self._ask_in(last, connect_as)

    def _ask_in(self, version: str, connect_as: Callable[[str], S]) -> S:
        """Connect; 5, if it was ever accepted, is asked for first from then on."""
        session = connect_as(version)
        self._accepted.add(version)
        best = "5" if "5" in self._accepted else version
        self.versions.sort(key=best.__ne__)
        return session


def accepted(
    session: S,
    waker: Waker,
    answer_timeout_s: float,
    mono_ns: Callable[[], int],
    limited_ns: Callable[[int], int] = int,
) -> S:
    """Connect the session, and return it once the broker has accepted; one that fails is closed.

    Args:
        session: Not connected yet.
        waker: Ends a wait, so that `limited_ns` is asked again.
        answer_timeout_s: How long to wait for the broker's word, once the network connection is there.
        mono_ns: The clock.
        limited_ns: Returns the deadline, or one that has become more urgent.

    Raises:
        BrokerRefusedError: the broker does not accept, or does not answer.
        SinkError: it cannot be reached.
        ConfigError: a secret or certificate cannot be read.
    """
    with ExitStack() as undo:
        undo.callback(session.close)
        session.connect()
        deadline_ns = mono_ns() + int(answer_timeout_s * 1e9)
        while not session.is_connected:
            waker.clear()
            left_s = (limited_ns(deadline_ns) - mono_ns()) / 1e9
            if left_s <= 0:
                # Some brokers that speak 3.1.1 only read MQTT 5 as the beginning of something longer.
                raise BrokerRefusedError("did not answer", try_other_version=True)
            session.pump(waker.fileno(), min(LOOK_UP_S, left_s))
        undo.pop_all()
    return session
