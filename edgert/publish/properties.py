"""What MQTT 5 adds to messages: properties as bytes, and short numbers for topics that repeat."""

from __future__ import annotations

from functools import lru_cache

from edgert.publish.session import Message

# Identifiers, MQTT 5.0 section 2.2.2.2.
MESSAGE_EXPIRY_INTERVAL = 0x02
CONTENT_TYPE = 0x03
CORRELATION_DATA = 0x09
RECEIVE_MAXIMUM = 0x21
TOPIC_ALIAS = 0x23
USER_PROPERTY = 0x26
MAXIMUM_PACKET_SIZE = 0x27

FAR_BYTES = 131_072  # two texts of any length
MAX_FIELD_BYTES = 65_535
FIELD_BYTES = 3  # identifier and length
HEADER_BYTES = 32  # more than type, lengths, packet id, expiry, alias and the correlation's head take


class PackedProperties:
    """Properties that are bytes already. paho asks for nothing but `pack`, once for each message."""

    __slots__ = ("_packed",)

    def __init__(self, properties: bytes) -> None:
        self._packed = _variable_integer(len(properties)) + properties

    def pack(self) -> bytes:
        """Return the properties with their length in front."""
        return self._packed


def connect_properties(receive_maximum: int, packet_bytes: int) -> PackedProperties:
    """Return what a broker may send: messages before we have acknowledged one, and bytes in a packet."""
    messages = bytes([RECEIVE_MAXIMUM]) + receive_maximum.to_bytes(2, "big")
    return PackedProperties(messages + bytes([MAXIMUM_PACKET_SIZE]) + packet_bytes.to_bytes(4, "big"))


def publish_properties(message: Message, alias: int = 0) -> PackedProperties | None:
    """Return the properties of a message; None if it has none. Kept where only few kinds are in use.

    Raises:
        ValueError: a text is too long for MQTT.
    """
    if message.correlation or message.user_properties:
        return PackedProperties(_common(message.content_type, message.expiry_s, alias) + _own(message))
    if message.content_type or message.expiry_s or alias:
        return _kept(message.content_type, message.expiry_s, alias)
    return None


def fits(message: Message, limit_bytes: int) -> bool:
    """Say whether a packet with this message is within the broker's limit; where that is far, it is cheap."""
    is_far = len(message.payload) < limit_bytes - FAR_BYTES
    return (is_far and not message.user_properties) or packet_bytes(message) <= limit_bytes


def packet_bytes(message: Message) -> int:
    """Return what a PUBLISH of this message takes at most, in any version."""
    texts = (
        message.topic,
        message.content_type,
        *(part for pair in message.user_properties for part in pair),
    )
    fields = sum(len(text.encode()) + FIELD_BYTES for text in texts)
    return HEADER_BYTES + fields + len(message.correlation) + len(message.payload)


class TopicAliases:
    """The topics that a broker knows by number on one connection: the first so many that were published."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[str, int] = {}

    def find(self, topic: str) -> tuple[str, int]:
        """Return what to send: no topic once the broker knows its number; number 0 if it gets none."""
        known = self._known.get(topic)
        if known:
            return "", known
        is_room = len(self._known) < self._limit
        return topic, len(self._known) + 1 if is_room else 0

    def sent(self, topic: str, alias: int) -> None:
        """Note that topic and number went out together."""
        self._known[topic] = alias


@lru_cache(1024)
def _kept(content_type: str, expiry_s: int, alias: int) -> PackedProperties:
    return PackedProperties(_common(content_type, expiry_s, alias))


def _common(content_type: str, expiry_s: int, alias: int) -> bytes:
    expiry = bytes([MESSAGE_EXPIRY_INTERVAL]) + expiry_s.to_bytes(4, "big") if expiry_s else b""
    kind = bytes([CONTENT_TYPE]) + _field(content_type.encode()) if content_type else b""
    number = bytes([TOPIC_ALIAS]) + alias.to_bytes(2, "big") if alias else b""
    return expiry + kind + number


def _own(message: Message) -> bytes:
    correlation = bytes([CORRELATION_DATA]) + _field(message.correlation) if message.correlation else b""
    pairs = (
        bytes([USER_PROPERTY]) + _field(name.encode()) + _field(value.encode())
        for name, value in message.user_properties
    )
    return correlation + b"".join(pairs)


def _field(data: bytes) -> bytes:
    if len(data) > MAX_FIELD_BYTES:
        raise ValueError(f"A property of {len(data)} bytes; MQTT allows {MAX_FIELD_BYTES}.")
    return len(data).to_bytes(2, "big") + data


def _variable_integer(number: int) -> bytes:
    """Return seven bits a byte, the lowest first (MQTT 5.0 section 1.5.5)."""
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
