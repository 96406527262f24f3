"""Properties of MQTT 5 as bytes, against paho's own, and topics as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgert.publish.properties import (
    TopicAliases,
    connect_properties,
    packet_bytes,
    publish_properties,
)
from edgert.publish.session import Message

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\ufeff"), max_size=300)


def unpacked(packed, kind):
    properties, size = Properties(kind).unpack(packed.pack())
    assert size == len(packed.pack())
    return properties.json()


def test_a_message_without_any_has_none():
    assert publish_properties(Message("t", b"x")) is None


@given(
    content_type=TEXT,
    expiry_s=st.integers(0, 2**32 - 1),
    alias=st.integers(0, 65_535),
    correlation=st.binary(max_size=200),
    pairs=st.lists(st.tuples(TEXT, TEXT), max_size=3),
)
def test_what_is_packed_is_what_paho_reads(content_type, expiry_s, alias, correlation, pairs):
    message = Message(
        "t",
        b"",
        content_type=content_type,
        expiry_s=expiry_s,
        correlation=correlation,
        user_properties=tuple(pairs),
    )
    expected = {
        "ContentType": content_type,
        "MessageExpiryInterval": expiry_s,
        "TopicAlias": alias,
        "CorrelationData": correlation.hex(),
        "UserProperty": pairs,
    }
    packed = publish_properties(message, alias)
    found = unpacked(packed, PacketTypes.PUBLISH) if packed else {}
    assert found == {name: value for name, value in expected.items() if value}


def test_properties_that_repeat_are_made_once():
    first, second = (Message("t", payload, content_type="a/b", expiry_s=60) for payload in (b"1", b"2"))
    assert publish_properties(first, 3) is publish_properties(second, 3)
    assert publish_properties(first, 3) is not publish_properties(second, 4)


def test_a_text_that_mqtt_cannot_carry_is_refused():
    with pytest.raises(ValueError, match="65536 bytes; MQTT allows 65535"):
        publish_properties(Message("t", b"", correlation=b"x" * 65_536))


def test_what_a_broker_may_send():
    found = unpacked(connect_properties(20, 1_000_000), PacketTypes.CONNECT)
    assert found == {"ReceiveMaximum": 20, "MaximumPacketSize": 1_000_000}


@given(topic=TEXT, content_type=TEXT, pairs=st.lists(st.tuples(TEXT, TEXT), max_size=3))
def test_the_size_of_a_packet_is_never_underestimated(topic, content_type, pairs):
    message = Message(
        topic,
        b"payload",
        qos=1,
        content_type=content_type,
        expiry_s=9,
        correlation=b"c",
        user_properties=tuple(pairs),
    )
    head = 1 + 4 + 2 + 2  # type, length, topic's length, packet id
    actual = head + len(topic.encode()) + len(publish_properties(message, 7).pack()) + len(b"payload")
    assert actual <= packet_bytes(message) <= actual + 40


def test_a_topic_is_sent_until_the_broker_knows_its_number():
    aliases = TopicAliases(2)
    assert aliases.find("a") == ("a", 1)
    assert aliases.find("a") == ("a", 1)  # it was not sent
    aliases.sent("a", 1)
    assert aliases.find("a") == ("", 1)
    aliases.sent(*aliases.find("b"))
    assert aliases.find("b") == ("", 2)
    assert aliases.find("c") == ("c", 0)  # the broker allows no more


def test_a_broker_that_allows_no_aliases_gets_topics():
    assert TopicAliases(0).find("a") == ("a", 0)
