"""What waits for a broker besides results."""

from __future__ import annotations

import pytest

from edgert.publish import outbox as module
from edgert.publish.outbox import MAX_BREAKS, Outbox
from edgert.publish.session import Message


@pytest.fixture
def outbox():
    return Outbox("state")


def taken(outbox):
    messages = []
    while (message := outbox.take()) is not None:
        messages.append((message.topic, message.payload))
    return messages


def test_a_retained_value_waits_for_a_connection_and_is_due_on_each(outbox):
    outbox.retain("birth", b"1")
    assert outbox.is_empty
    for _ in range(2):
        outbox.connected()
        assert taken(outbox) == [("birth", b"1")]
        outbox.disconnected([])


def test_only_the_last_value_is_due_and_the_state_comes_last(outbox):
    outbox.retain("state", b"init")
    outbox.retain("birth", b"1")
    outbox.retain("birth", b"2")
    outbox.retain("state", b"ready")
    outbox.retain("source/a/state", b"online")
    outbox.connected()
    assert taken(outbox) == [("birth", b"2"), ("source/a/state", b"online"), ("state", b"ready")]


def test_while_connected_every_value_is_sent(outbox):
    outbox.connected()
    for state in (b"init", b"ready"):
        outbox.retain("state", state)
    assert taken(outbox) == [("state", b"init"), ("state", b"ready")]
    assert outbox.retained("state") == b"ready"
    assert outbox.retained("birth") is None


def test_retained_values_ask_for_an_acknowledgement_and_announcements_do_not(outbox):
    outbox.connected()
    outbox.retain("state", b"x")
    outbox.announce("stats", b"y")
    first, second = outbox.take(), outbox.take()
    assert (first.qos, first.is_retained) == (1, True)
    assert (second.qos, second.is_retained) == (0, False)


def test_an_announcement_is_dropped_and_counted_while_there_is_no_connection(outbox):
    outbox.announce("stats", b"1")
    outbox.connected()
    outbox.announce("stats", b"2")
    outbox.disconnected([])
    outbox.announce("stats", b"3")
    outbox.connected()
    assert taken(outbox) == []
    assert outbox.counts.snapshot() == {"broker_away": 2}


def test_announcements_are_bounded(outbox, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANNOUNCEMENTS", 2)
    outbox.connected()
    for payload in (b"1", b"2", b"3"):
        outbox.announce("stats", payload)
    assert taken(outbox) == [("stats", b"2"), ("stats", b"3")]
    assert outbox.counts.snapshot() == {"queue_full": 1}


def test_what_a_connection_left_unfinished_goes_first_on_the_next_in_order(outbox):
    outbox.connected()
    assert outbox.disconnected([Message("r", b"1"), Message("r", b"2")]) is None
    outbox.connected()
    assert outbox.take().payload == b"1"
    outbox.disconnected([Message("r", b"1")])  # and 2 was not even taken
    outbox.connected()
    assert taken(outbox) == [("r", b"1"), ("r", b"2")]


def test_an_unfinished_retained_value_is_not_sent_twice(outbox):
    outbox.retain("state", b"ready")
    outbox.connected()
    outbox.disconnected([outbox.take()])
    outbox.connected()
    assert taken(outbox) == [("state", b"ready")]


def test_a_message_that_ends_every_connection_is_given_up(outbox):
    poison, innocent = Message("r", b"poison"), Message("r", b"innocent")
    for _ in range(MAX_BREAKS - 1):
        assert outbox.disconnected([poison, innocent]) is None
        assert [outbox.take(), outbox.take()] == [poison, innocent]
    assert outbox.disconnected([poison, innocent]) is poison
    assert outbox.take() is innocent
    assert innocent.breaks == 0
