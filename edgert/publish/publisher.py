"""What goes out on one connection to a broker, in which order, and what becomes of it."""

from __future__ import annotations

import logging

from edgert.publish.cork import Burst
from edgert.publish.outbox import Outbox
from edgert.publish.properties import fits
from edgert.publish.session import Feed, Message, Session

log = logging.getLogger(__name__)


class Publisher:
    """Takes from the outbox and the feed, as long as the session has room. The connection's thread."""

    def __init__(self, name: str, session: Session, outbox: Outbox, feed: Feed) -> None:
        self._name = name
        self._session = session
        self._outbox = outbox
        self._feed = feed

    def publish(self) -> None:
        """Publish all that waits, but for stored results, together."""
        with Burst(self._session) as burst:
            while self._session.has_room(qos=1) and (message := self._next_message()) is not None:
                burst.add()
                self._publish(message)

    def publish_stored(self) -> None:
        """Publish one stored result if it is due, with all that belongs to it: none waits for two."""
        message = self._feed.next_stored() if self._session.has_room(qos=1) else None
        while message is not None:
            self._publish(message)
            is_more = self._feed.is_midway and self._session.has_room(qos=1)
            message = self._feed.next_message() if is_more else None

    def stored_due_s(self) -> float | None:
        """Return the seconds until `publish_stored` has something; None: other news comes first."""
        return self._feed.stored_due_s() if self._session.has_room(qos=1) else None

    def settle(self) -> None:
        """Tell the feed, or the log, what the broker has said."""
        for settled in self._session.take_settled():
            message, refusal = settled.message, settled.refusal
            if message.ticket is None:
                if refusal:
                    log.warning("Sink %s: %s refused: %s", self._name, message.topic, refusal)
            elif refusal is None:
                self._feed.acknowledged(message)
            else:
                self._feed.refused(message, refusal)

    def is_acknowledged(self) -> bool:
        """Say whether nothing waits in the outbox, or for the broker's word."""
        return self._outbox.is_empty and not self._session.unfinished()

    def _next_message(self) -> Message | None:
        message = None if self._feed.is_midway else self._outbox.take()
        return message or self._feed.next_message()

    def _publish(self, message: Message) -> None:
        limits = self._session.limits
        if not fits(message, limits.packet_bytes):
            self._too_large(message, limits.packet_bytes)
            return
        message.qos = min(message.qos, limits.qos)
        self._session.publish(message)
        if message.ticket is not None:
            self._feed.handed_over(message)

    def _too_large(self, message: Message, limit_bytes: int) -> None:
        if message.ticket is not None:
            self._feed.too_large(message, limit_bytes)
            return
        text = "Sink %s: %s is not published: %d bytes are over the broker's %d"
        log.warning(text, self._name, message.topic, len(message.payload), limit_bytes)
