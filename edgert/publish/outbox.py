"""What waits for a broker besides fresh results."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from edgert.publish.session import Message
from edgert.stats import Tally

MAX_ANNOUNCEMENTS = 1000
SOON_S = 5.0  # a connection that ended sooner may have ended because of a message
MAX_ANSWERS = 32  # that wait: who asks faster than the broker takes answers gets none
MAX_BREAKS = 5  # connections that one message may cost before it is given up


class Outbox:
    """Retained values, single messages, and what a broken connection left unfinished.

    Any thread puts in; the connection's thread takes. A retained value is kept for every later
    connection; announcements and answers are dropped while there is none.
    """

    def __init__(self, last_topic: str) -> None:
        self._last_topic = last_topic  # its value says that all others are in place
        self._lock = threading.Lock()
        self._retained: dict[str, Message] = {}
        self._announcements: deque[Message] = deque()
        self._unfinished: deque[Message] = deque()
        self._makers: dict[str, Callable[[int], bytes]] = {}
        self._connections = 0
        self._is_connected = False
        self.counts = Tally()  # announcements and answers dropped, by reason

    def retain(self, topic: str, payload: bytes, *, newest_only: bool = False) -> None:
        """Send `payload` now, if connected, and after every later connect.

        `newest_only`: in the place of an earlier value that still waits, if there is one.
        """
        message = Message(topic, payload, qos=1, is_retained=True)
        with self._lock:
            earlier = self._retained.get(topic)
            self._retained[topic] = message
            if not self._is_connected:
                return
            if newest_only and earlier is not None and earlier in self._announcements:
                self._announcements[self._announcements.index(earlier)] = message
            else:
                self._append(message)

    def retain_each(self, topic: str, make: Callable[[int], bytes]) -> None:
        """Like `retain`, with a payload for each connection, made from its number, the first being 1."""
        self._makers[topic] = make
        self.retain(topic, make(self._connections))

    def announce(self, message: Message) -> None:
        """Send the message once, on this connection, or never."""
        with self._lock:
            if self._is_connected:
                self._append(message)
            else:
                self.counts.add("broker_away")

    def connected(self, greet: Callable[[], Sequence[Message]] = tuple) -> None:
        """Begin a connection: the greeting, as it is now, is due, then all retained values."""
        with self._lock:
            self._is_connected = True
            self._connections += 1
            for topic, make in self._makers.items():
                payload = make(self._connections)
                self._retained[topic] = Message(topic, payload, qos=1, is_retained=True)
            self._announcements.clear()
            self._announcements.extend(greet())
            self._announcements.extend(m for topic, m in self._retained.items() if topic != self._last_topic)
            if self._last_topic in self._retained:
                self._announcements.append(self._retained[self._last_topic])

    def disconnected(self, again: list[Message]) -> None:
        """End a connection; these are sent again, in order, on the next, and so are answers that wait."""
        with self._lock:
            self._is_connected = False
            waiting = [message for message in self._announcements if not message.is_retained]
            self._announcements.clear()
        self._unfinished.extendleft(reversed(again))
        for message in waiting:
            is_room = len(self._unfinished) < MAX_ANNOUNCEMENTS
            if message.is_kept and is_room:
                self._unfinished.append(message)
            else:
                self.counts.add("broker_away")

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

    def _append(self, message: Message) -> None:
        waiting = self._announcements
        is_full = len(waiting) >= MAX_ANNOUNCEMENTS
        if message.is_kept and (is_full or sum(each.is_kept for each in waiting) >= MAX_ANSWERS):
            self.counts.add("queue_full")
            return
        if is_full:
            oldest = next((each for each in waiting if not each.is_retained), waiting[0])
            waiting.remove(oldest)
            self.counts.add("queue_full")
        waiting.append(message)


def survivors(unfinished: list[Message], lasted_s: float) -> tuple[list[Message], Message | None]:
    """Return what is to be sent again on the next connection, and the message that is given up, if any.

    Retained values are due on every connection anyway, and announcements belong to theirs. The first
    survivor is given up in the end: a broker that ends connection after connection as soon as the same
    message is first in flight most likely ends them because of it. A bad link takes longer to be noticed.
    """
    again = [message for message in unfinished if message.ticket is not None or message.is_kept]
    if not again:
        return [], None
    first = again[0].ticket or again[0]
    first.breaks += lasted_s < SOON_S
    if first.breaks < MAX_BREAKS:
        return again, None
    return again[1:], again[0]
