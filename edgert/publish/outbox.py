"""What waits for a broker besides fresh results."""

from __future__ import annotations

import threading
from collections import deque

from edgert.publish.session import Message
from edgert.stats import Tally

MAX_ANNOUNCEMENTS = 1000
MAX_BREAKS = 5  # connections that one message may cost before it is given up


class Outbox:
    """Retained values, single announcements, and messages that a broken connection left unfinished.

    Any thread retains and announces; the connection's thread takes. A retained value is kept for every
    later connection, an announcement is dropped while there is none.
    """

    def __init__(self, last_topic: str) -> None:
        self._last_topic = last_topic  # its value says that all others are in place
        self._lock = threading.Lock()
        self._retained: dict[str, Message] = {}
        self._announcements: deque[Message] = deque()
        self._unfinished: deque[Message] = deque()
        self._is_connected = False
        self.counts = Tally()  # announcements dropped, by reason

    def retain(self, topic: str, payload: bytes) -> None:
        """Send `payload` now, if connected, and after every later connect."""
        message = Message(topic, payload, qos=1, is_retained=True)
        with self._lock:
            self._retained[topic] = message
            if self._is_connected:
                self._announce(message)

    def announce(self, topic: str, payload: bytes) -> None:
        """Send `payload` once, now, or never."""
        with self._lock:
            if self._is_connected:
                self._announce(Message(topic, payload))
            else:
                self.counts.add("broker_away")

    def retained(self, topic: str) -> bytes | None:
        """Return the last retained value of `topic`."""
        message = self._retained.get(topic)
        return message.payload if message else None

    def connected(self) -> None:
        """Begin a connection: all retained values are due."""
        with self._lock:
            self._is_connected = True
            self._announcements.clear()
            self._announcements.extend(m for topic, m in self._retained.items() if topic != self._last_topic)
            if self._last_topic in self._retained:
                self._announcements.append(self._retained[self._last_topic])

    def disconnected(self, unfinished: list[Message]) -> Message | None:
        """End a connection; `unfinished` are sent again, in order, on the next.

        Returns the first of them if it is given up: a broker that ends connection after connection
        with the same message first in flight most likely ends them because of it.
        """
        with self._lock:
            self._is_connected = False
            self._announcements.clear()
        again = [message for message in unfinished if not message.is_retained]
        given_up = None
        if again:
            again[0].breaks += 1
            given_up = again.pop(0) if again[0].breaks >= MAX_BREAKS else None
        self._unfinished.extendleft(reversed(again))
        return given_up

    def take(self) -> Message | None:
        """Return the next message: announcements, then what is unfinished; None if nothing waits."""
        with self._lock:
            if self._announcements:
                return self._announcements.popleft()
        return self._unfinished.popleft() if self._unfinished else None

    @property
    def is_empty(self) -> bool:
        """Nothing waits."""
        return not self._announcements and not self._unfinished

    def _announce(self, message: Message) -> None:
        if len(self._announcements) >= MAX_ANNOUNCEMENTS:
            self._announcements.popleft()
            self.counts.add("queue_full")
        self._announcements.append(message)
