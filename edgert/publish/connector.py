"""Finds a broker that accepts: the first of the list that does, in the best version that it speaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from edgert.errors import EdgertError
from edgert.publish.closing import Closing
from edgert.publish.complaint import Complaint
from edgert.publish.options import MqttOptions, shown_address
from edgert.publish.session import Attempt, BrokerRefusedError, Message, Session
from edgert.publish.waker import Waker
from edgert.stats import Tally

log = logging.getLogger(__name__)

OpenSession = Callable[[Attempt], Session]

ANSWER_TIMEOUT_S = 5.0  # for the broker's word on CONNECT
LOOK_UP_S = 0.5  # how often a quiet connection looks after keep-alive and deadlines


class KnownBroker:
    """One broker of the list, and what is known about it."""

    def __init__(self, name: str, host: str, port: int, protocol: str) -> None:
        self.host = host
        self.port = port
        self.title = f"Sink {name}: MQTT broker {shown_address(host, port)}"
        self.complaint = Complaint(log, self.title)
        self.versions = ["5", "3.1.1"] if protocol == "auto" else [protocol]  # the best guess first
        self._accepted: set[str] = set()

    def accepted(self, version: str) -> None:
        """Note a version that it speaks; 5, if it ever did, is asked for first."""
        self._accepted.add(version)
        best = "5" if "5" in self._accepted else version
        self.versions.sort(key=best.__ne__)


class Connector:
    """Connects on the connection's thread. Every round begins with the first broker.

    A broker further down in the list is used until it fails: nothing looks after the first meanwhile.
    """

    def __init__(
        self,
        name: str,
        options: MqttOptions,
        open_session: OpenSession,
        will: Callable[[], Message],
        closing: Closing,
        waker: Waker,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._open_session = open_session
        self._will = will
        self._closing = closing
        self._waker = waker
        self._mono_ns = mono_ns
        self._brokers = [KnownBroker(name, host, port, options.protocol) for host, port in options.addresses]
        self.broker = self._brokers[0]  # the one that was asked last
        self.counts = Tally()  # connected; failed: attempts, and connections that ended

    def connect(self) -> Session:
        """Return a session that a broker has accepted. Blocks until one has, or all have failed.

        Raises:
            BrokerRefusedError: the last broker did not accept; final if that is so for all of them.
            SinkError: the last broker cannot be reached.
            ConfigError: a secret or certificate cannot be read.
        """
        is_final = True
        *others, last = self._brokers
        for self.broker in others:
            try:
                return self._connect()
            except EdgertError as error:
                if self._closing.is_late():
                    raise
                self.complain(error)
                is_final = is_final and getattr(error, "is_final", False)
        return self._connect_last(last, is_final=is_final)

    def complain(self, error: EdgertError, hint: str = "") -> None:
        """Count and log a failure of the broker that was asked last."""
        self.counts.add("failed")
        self.broker.complaint.raised(f"{error}{hint}")

    def _connect_last(self, last: KnownBroker, *, is_final: bool) -> Session:
        self.broker = last
        try:
            return self._connect()
        except BrokerRefusedError as error:
            error.is_final = error.is_final and is_final
            raise

    def _connect(self) -> Session:
        *versions, last = self.broker.versions
        for version in versions:
            try:
                return self._connect_as(version)
            except BrokerRefusedError as error:
                if not error.try_other_version:
                    raise
                log.debug("%s: no MQTT %s: %s", self.broker.title, version, error)
        return self._connect_as(last)

    def _connect_as(self, version: str) -> Session:
        broker = self.broker
        session = self._open_session(Attempt(version, broker.host, broker.port, self._will()))
        with ExitStack() as undo:
            undo.callback(session.close)
            session.connect()
            self._await_answer(session)
            undo.pop_all()
        broker.accepted(version)
        self.counts.add("connected")
        log.info("%s: connected with MQTT %s", broker.title, version)
        return session

    def _await_answer(self, session: Session) -> None:
        deadline_ns = self._mono_ns() + int(ANSWER_TIMEOUT_S * 1e9)
        while not session.is_connected:
            self._waker.clear()
            left_s = (self._closing.limited_ns(deadline_ns) - self._mono_ns()) / 1e9
            if left_s <= 0:
                # Some brokers that speak 3.1.1 only read MQTT 5 as the beginning of something longer.
                raise BrokerRefusedError("did not answer", try_other_version=True)
            session.pump(self._waker.fileno(), min(LOOK_UP_S, left_s))
