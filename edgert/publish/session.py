"""What the keeper of a broker connection works with: sessions on one side, a feed on the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from edgert.errors import SinkError
from edgert.publish.ticket import Ticket


class Message(msgspec.Struct, eq=False):
    """One message on its way to the broker."""

    topic: str  # complete
    payload: bytes
    qos: int = 0
    is_retained: bool = False
    ticket: Ticket | None = None  # of the result that the payload says; None: not a result
    is_kept: bool = False  # sent again on the next connection, as a result is
    breaks: int = 0  # connections that ended with it first in flight, if it is no result
    # Of MQTT 5; left out where 3.1.1 is spoken.
    content_type: str = ""
    expiry_s: int = 0  # after which the broker drops it undelivered; 0: never
    correlation: bytes = b""  # of the request that it answers
    user_properties: tuple[tuple[str, str], ...] = ()


class Received(msgspec.Struct, frozen=True):
    """One message from the broker."""

    topic: str
    payload: bytes
    is_retained: bool = False
    response_topic: str = ""  # of MQTT 5: where its sender wants the answer
    correlation: bytes = b""


class Limits(msgspec.Struct, frozen=True):
    """What the broker allows, once it has accepted the connection."""

    inflight: int  # unacknowledged messages of QoS 1 and 2
    packet_bytes: int = 268_435_455  # topic and payload with their headers
    qos: int = 2


class Settled(msgspec.Struct, frozen=True):
    """The broker's word on a message of QoS 1 or 2."""

    message: Message
    refusal: str | None  # None: it has taken it


class Attempt(msgspec.Struct, frozen=True):
    """How to connect, once."""

    version: str  # of MQTT: "5" or "3.1.1"
    host: str
    port: int
    will: Message  # what the broker publishes if this process vanishes; without properties of MQTT 5


class BrokerRefusedError(SinkError):
    """The broker could be reached and did not accept the connection.

    `try_other_version`: it may speak another version of MQTT. `is_final`: asking again soon is no use,
    because somebody has to change something first.
    """

    def __init__(self, message: str, *, try_other_version: bool = False, is_final: bool = False) -> None:
        super().__init__(message)
        self.try_other_version = try_other_version
        self.is_final = is_final


class Session(Protocol):
    """One connection to a broker, from CONNECT to the end. Used by one thread."""

    limits: Limits
    is_connected: bool  # the broker has accepted

    def connect(self) -> None:
        """Open the network connection and ask the broker. May block for `CONNECT_TIMEOUT_S`.

        Raises:
            SinkError: the broker cannot be reached.
            ConfigError: a secret or certificate cannot be read.
        """

    def pump(self, wake: int, timeout_s: float) -> None:
        """Wait for the network or for descriptor `wake`, then receive and send what is possible.

        After `say_goodbye` it does not raise.

        Raises:
            BrokerRefusedError: the broker does not accept the connection.
            SinkError: the connection has ended.
        """

    def has_room(self, qos: int) -> bool:
        """Say whether to `publish`: the last message is out and, for QoS 1 and 2, the window has room."""

    def publish(self, message: Message) -> None:
        """Send as much of the message as the network takes without blocking; `pump` sends the rest.

        A connection that has ended shows at the next `pump`; the message is then among `unfinished`.
        """

    def subscribe(self, filters: Sequence[str]) -> None:
        """Ask for messages of these topic filters, with QoS 1. Once the broker has accepted."""

    def take_received(self) -> list[Received]:
        """Return what has arrived since the last call, in order."""

    def take_refused_filters(self) -> list[tuple[str, str]]:
        """Return the filters that the broker has refused since the last call, each with its reason."""

    def cork(self, *, is_corked: bool) -> None:
        """Let the network collect what is published from now on, or send what it has collected."""

    def take_settled(self) -> list[Settled]:
        """Return what the broker has said since the last call, in its order."""

    def unfinished(self) -> list[Message]:
        """Return the messages that the broker may not have, in the order of publishing."""

    def say_goodbye(self) -> None:
        """Send DISCONNECT, so that the broker forgets the will. `pump` until `is_over`."""

    def is_over(self) -> bool:
        """Say whether the network connection has ended."""

    def close(self) -> None:
        """End the network connection at once. Does not raise; allowed in any state."""


class Feed(Protocol):
    """Where results come from, and where the connection says what became of them. Its thread calls."""

    def connected(self, connected_mono_ns: int, inflight: int) -> None:
        """Begin a connection that takes `inflight` unacknowledged messages. Older results are historical."""

    def next_message(self) -> Message | None:
        """Return the next live message, or what belongs to the last one; None if none waits."""

    def next_stored(self) -> Message | None:
        """Return the first message of the next stored result; None if none is due."""

    def stored_due_s(self) -> float | None:
        """Return the seconds until `next_stored` has something; None: something else has to happen first."""

    def take_back(self, messages: list[Message]) -> None:
        """Keep these results, in order, for the next connection; the broker may have them.

        At the end of every connection, also with none. Their tickets come again.
        """

    @property
    def is_midway(self) -> bool:
        """The next message belongs to the last one: nothing else may come between."""

    @property
    def is_finished(self) -> bool:
        """Nothing waits, and nothing more will come."""

    def discard(self) -> None:
        """Drop what waits: time is up."""

    def handed_over(self, message: Message) -> None:
        """The message was given to the network, perhaps not for the first time: its ticket knows."""

    def acknowledged(self, message: Message) -> None:
        """The broker has taken the message."""

    def refused(self, message: Message, why: str) -> None:
        """The broker has not taken the message, and will not be asked again."""

    def too_large(self, message: Message, limit_bytes: int) -> None:
        """The broker allows no packet of this size; the message was not sent."""
