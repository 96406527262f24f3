"""Asks a broker for topics, and waits for its word on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from edgert.publish.reasons import shown_user
from edgert.publish.session import BrokerRefusedError, Received

ANSWER_TIMEOUT_S = 5.0  # for the broker's word on all topic filters
QOS = 0  # a slow listener shall not make the broker keep messages for it
NOBODY = -1  # no descriptor that would end a wait


class Ear(Protocol):
    """A session that only listens; `mqtt.PahoSession` is one."""

    is_connected: bool

    def connect(self) -> None:
        """Open the network connection and ask the broker. Raises SinkError, ConfigError."""

    def pump(self, wake: int, timeout_s: float) -> None:
        """Wait for the network or for descriptor `wake`, and receive. Raises SinkError, also again."""

    def subscribe(self, filters: Sequence[str], qos: int) -> None:
        """Ask for messages of these topic filters."""

    def unsubscribe(self, topic_filter: str) -> None:
        """Ask for no more of this one."""

    def is_subscribed(self) -> bool:
        """Say whether the broker has accepted or refused each filter that was asked for."""

    def take_received(self) -> list[Received]:
        """Return what has arrived since the last call, in order."""

    def take_refused_filters(self) -> list[tuple[str, str]]:
        """Return the filters that the broker has refused since the last call, each with its reason."""

    def say_goodbye(self) -> None:
        """Send DISCONNECT. Raises SinkError."""

    def close(self) -> None:
        """End the network connection at once."""


def subscribe(ear: Ear, filters: Sequence[str], user: str | None, mono_ns: Callable[[], int]) -> list[str]:
    """Return the filters that the broker refuses. What arrives meanwhile is left to be taken.

    Raises:
        BrokerRefusedError: it refuses all of them, as `user`, or does not answer.
        SinkError: the connection has ended.
    """
    ear.subscribe(filters, QOS)
    deadline_ns = mono_ns() + int(ANSWER_TIMEOUT_S * 1e9)
    while not ear.is_subscribed():
        left_s = (deadline_ns - mono_ns()) / 1e9
        if left_s <= 0:
            raise BrokerRefusedError("did not answer", try_other_version=True)
        ear.pump(NOBODY, left_s)
    refused = [topic_filter for topic_filter, _ in ear.take_refused_filters()]
    if len(refused) == len(filters):
        said = f"lets {shown_user(user)} read none of {', '.join(filters)}; check its access list"
        raise BrokerRefusedError(said, is_final=True)
    return refused
