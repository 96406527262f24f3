"""Finds a broker that accepts: the first of the list that does, in the best version that it speaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edgert.errors import EdgertError
from edgert.publish.closing import Closing
from edgert.publish.complaint import Complaint
from edgert.publish.known_broker import LOOK_UP_S, KnownBroker, accepted
from edgert.publish.options import MqttOptions
from edgert.publish.session import Attempt, BrokerRefusedError, Message, Session
from edgert.publish.waker import Waker
from edgert.stats import Tally

__all__ = ["LOOK_UP_S", "Connector", "OpenSession"]

log = logging.getLogger(__name__)

OpenSession = Callable[[Attempt], Session]

ANSWER_TIMEOUT_S = 5.0  # for the broker's word on CONNECT


class SinkBroker(KnownBroker):
    """A broker of a sink, whose faults are logged."""

    def __init__(self, name: str, host: str, port: int, protocol: str) -> None:
        super().__init__(host, port, protocol)
        self.title = f"Sink {name}: {self.title}"
        self.complaint = Complaint(log, self.title)


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
        self._brokers = [SinkBroker(name, host, port, options.protocol) for host, port in options.addresses]
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

    def _connect_last(self, last: SinkBroker, *, is_final: bool) -> Session:
        self.broker = last
        try:
            return self._connect()
        except BrokerRefusedError as error:
            error.is_final = error.is_final and is_final
            raise

    def _connect(self) -> Session:
        return self.broker.ask(self._connect_as)

    def _connect_as(self, version: str) -> Session:
        broker = self.broker
        session = self._open_session(Attempt(version, broker.host, broker.port, self._will()))
        accepted(session, self._waker, ANSWER_TIMEOUT_S, self._mono_ns, self._closing.limited_ns)
        self.counts.add("connected")
        log.info("%s: connected with MQTT %s", broker.title, version)
        return session
