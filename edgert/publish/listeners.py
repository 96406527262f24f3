"""Who listens to which topics of a broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edgert.publish.session import Received
from edgert.stats import Tally

log = logging.getLogger(__name__)

OnMessage = Callable[[Received], None]


class Listeners:
    """Topic filters with those who want their messages. Any thread adds; the connection's does the rest."""

    def __init__(self, name: str, counts: Tally) -> None:
        """`counts` gets `listener_failed`."""
        self._name = name
        self._counts = counts
        self._lock = threading.Lock()
        self._wanted: list[tuple[str, OnMessage]] = []
        self._due: list[str] = []

    def add(self, topic_filter: str, on_message: OnMessage) -> None:
        """Hand what arrives there to `on_message`, from now on."""
        with self._lock:
            self._wanted.append((topic_filter, on_message))
            self._due.append(topic_filter)

    def connected(self) -> None:
        """Begin a connection: all filters are due."""
        with self._lock:
            self._due = [topic_filter for topic_filter, _ in self._wanted]

    def take_due(self) -> list[str]:
        """Return the filters that the broker has not been asked for yet, each once."""
        if not self._due:
            return []
        with self._lock:
            due, self._due = self._due, []
        return list(dict.fromkeys(due))

    def hear(self, received: Received) -> None:
        """Hand a message to all who want it. What one of them raises is logged and counted."""
        with self._lock:
            wanted = list(self._wanted)
        takers = dict.fromkeys(take for topic_filter, take in wanted if matches(topic_filter, received.topic))
        for on_message in takers:
            try:
                on_message(received)
            except Exception:  # whatever a listener does with a message, the connection must go on
                self._counts.add("listener_failed")
                log.exception("Sink %s: a message of %s was not handled", self._name, received.topic)


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether a filter covers a topic: `+` is one level, `#` the rest and what stands before it."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in ("+", level) for want, level in zip(wanted, levels, strict=True)
    )
