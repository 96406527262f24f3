"""What a node says on a broker: topics, payloads, and the words at the begin and the end of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Protocol

from edgert.frames.result import Result
from edgert.publish import topics
from edgert.publish.encoder import Encoder
from edgert.publish.session import Message, Received

LOST = b"lost"
DISCONNECTED = b"disconnected"


class Dialect(Protocol):
    """Used by one thread, the connection's, except `result`'s encoder."""

    announces: bool  # states, birth and statistics are published too, below the node's prefix
    subscriptions: tuple[str, ...]  # topic filters

    def will(self) -> Message:
        """Return what the broker publishes if this process vanishes; called once before each CONNECT."""

    def greeting(self) -> list[Message]:
        """Return what comes first on a connection that the broker has just accepted."""

    def farewell(self) -> Message:
        """Return what is published last, before DISCONNECT: the broker forgets the will then."""

    def result(self, result: Result, *, historical: bool, qos: int) -> list[Message]:
        """Return the messages of a result, to be sent now and in this order.

        The last is the result's own. Raises ConfigError for a bad name.
        """

    def received(self, received: Received) -> list[Message]:
        """Return the answer to a message of one of `subscriptions`."""

    def described(
        self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]
    ) -> list[Message]:
        """Take each source's models and each detector's labels; return what to send. Any thread."""


class NativeDialect:
    """edgert's own topic tree, see `topics`; the payload is the encoder's."""

    announces = True
    subscriptions: tuple[str, ...] = ()

    def __init__(self, prefix: str, encoder: Encoder, expiry_s: int = 0) -> None:
        """`expiry_s`: after that a broker drops a result that it could not deliver; 0: never."""
        self._prefix = prefix
        self._encoder = encoder
        self._expiry_s = expiry_s

    def will(self) -> Message:
        """Return the retained state `lost`."""
        return Message(self._prefix + topics.STATE, LOST, qos=1, is_retained=True)

    def greeting(self) -> list[Message]:
        """Return nothing: the retained values follow."""
        return []

    def farewell(self) -> Message:
        """Return the retained state `disconnected`."""
        return Message(self._prefix + topics.STATE, DISCONNECTED, qos=1, is_retained=True)

    def result(self, result: Result, *, historical: bool, qos: int) -> list[Message]:
        """Return the result at `source/<source>/result/<model>`."""
        message = Message(
            _topic(self._prefix, result.source, result.model),
            self._encoder.encode(result, historical),
            qos,
            content_type=self._encoder.content_type,
            expiry_s=self._expiry_s,
        )
        return [message]

    def received(self, received: Received) -> list[Message]:
        """Return nothing: commands are heard by others."""
        return []

    def described(
        self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]
    ) -> list[Message]:
        """Return nothing: the birth says it."""
        return []


@lru_cache(1024)
def _topic(prefix: str, source: str, model: str) -> str:
    topics.check_name(source, "source")
    topics.check_name(model, "model")
    return prefix + topics.result(source, model)
