"""What a broker sends on one connection, and its word on topic filters."""

from __future__ import annotations

from typing import Any

from edgert.publish.session import Received


class Inbox:
    """Takes paho's callbacks; `Session` says what the others are for. On the connection's thread."""

    def __init__(self) -> None:
        self._received: list[Received] = []
        self._asked: dict[int, str] = {}  # topic filters, by packet id
        self._refused: list[tuple[str, str]] = []

    @property
    def is_answered(self) -> bool:
        """The broker has said its word on all filters."""
        return not self._asked

    def asked(self, packet_id: int | None, topic_filter: str) -> None:
        """Note a SUBSCRIBE; None: the connection had ended before."""
        if packet_id is not None:
            self._asked[packet_id] = topic_filter

    def refused(self, topic_filter: str, why: str) -> None:
        """Note a filter that cannot be asked for."""
        self._refused.append((topic_filter, why))

    def on_subscribe(self, _client: Any, _data: Any, mid: int, codes: list[Any], _properties: Any) -> None:
        """Note a SUBACK; each SUBSCRIBE has one filter."""
        topic_filter = self._asked.pop(mid, "")
        for code in codes:
            if code.is_failure:
                self.refused(topic_filter, str(code))

    def on_message(self, _client: Any, _data: Any, message: Any) -> None:
        """Keep a message. In 3.1.1 it has no properties."""
        properties = message.properties
        response_topic = getattr(properties, "ResponseTopic", "")
        correlation = getattr(properties, "CorrelationData", b"")
        payload = bytes(message.payload)
        self._received.append(Received(message.topic, payload, message.retain, response_topic, correlation))

    def take_received(self) -> list[Received]:
        """Return what has arrived since the last call, in order."""
        received, self._received = self._received, []
        return received

    def take_refused(self) -> list[tuple[str, str]]:
        """Return the filters that were refused since the last call, each with its reason."""
        refused, self._refused = self._refused, []
        return refused
