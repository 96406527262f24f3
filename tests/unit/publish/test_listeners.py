"""Who gets which message."""

from __future__ import annotations

import pytest

from edgert.publish.listeners import Listeners, matches
from edgert.publish.session import Received
from edgert.stats import Tally


@pytest.fixture
def counts():
    return Tally()


@pytest.fixture
def listeners(counts):
    return Listeners("m", counts)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "is_match"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/b", "a", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/d", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a/b/#", "a", False),
        ("#", "a/b", True),
        ("#", "$SYS/broker", False),
        ("+/broker", "$SYS/broker", False),
        ("$SYS/#", "$SYS/broker", True),
    ],
)
def test_a_filter_covers_a_topic(topic_filter, topic, is_match):
    assert matches(topic_filter, topic) == is_match


def test_each_filter_is_due_once_and_again_on_the_next_connection(listeners):
    listeners.add("a", print)
    listeners.add("a", repr)
    listeners.add("b", print)
    assert listeners.take_due() == ["a", "b"]
    assert listeners.take_due() == []
    listeners.add("c", print)
    assert listeners.take_due() == ["c"]
    listeners.connected()
    assert listeners.take_due() == ["a", "b", "c"]


def test_a_message_goes_once_to_each_who_wants_it(listeners):
    first, second = [], []
    listeners.add("a/+", first.append)
    listeners.add("a/#", first.append)
    listeners.add("a/b", second.append)
    listeners.hear(Received("a/b", b"1"))
    listeners.hear(Received("a/c", b"2"))
    assert [received.payload for received in first] == [b"1", b"2"]
    assert [received.payload for received in second] == [b"1"]


def test_what_a_listener_raises_is_counted_and_keeps_nothing_from_others(listeners, counts, caplog):
    heard = []
    listeners.add("a", lambda _: 1 / 0)
    listeners.add("a", heard.append)
    listeners.hear(Received("a", b""))
    assert len(heard) == counts["listener_failed"] == 1
    assert "Sink m: a message of a was not handled" in caplog.text
    assert "ZeroDivisionError" in caplog.text
