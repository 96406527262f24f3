"""What waits for a broker besides results."""

from __future__ import annotations

import pytest

from edgert.frames.result import Result, Tensors
from edgert.publish import outbox as module
from edgert.publish.outbox import MAX_BREAKS, Outbox, survivors
from edgert.publish.session import Message
from edgert.publish.ticket import Ticket

RESULT = Result("porch", 0, "m", 1, 0, 1, 1, 1, Tensors({}))


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


def test_retained_values_ask_for_an_acknowledgement_and_announcements_do_not(outbox):
    outbox.connected()
    outbox.retain("state", b"x")
    outbox.announce(Message("stats", b"y"))
    first, second = outbox.take(), outbox.take()
    assert (first.qos, first.is_retained) == (1, True)
    assert (second.qos, second.is_retained) == (0, False)


def test_an_announcement_is_dropped_and_counted_while_there_is_no_connection(outbox):
    outbox.announce(Message("stats", b"1"))
    outbox.connected()
    outbox.announce(Message("stats", b"2"))
    outbox.disconnected([])
    outbox.announce(Message("stats", b"3"))
    outbox.connected()
    assert taken(outbox) == []
    assert outbox.counts.snapshot() == {"broker_away": 3}  # 2 was never taken


def test_announcements_are_bounded(outbox, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANNOUNCEMENTS", 2)
    outbox.connected()
    for payload in (b"1", b"2", b"3"):
        outbox.announce(Message("stats", payload))
    assert taken(outbox) == [("stats", b"2"), ("stats", b"3")]
    assert outbox.counts.snapshot() == {"queue_full": 1}


def test_the_greeting_comes_before_all_retained_values(outbox):
    outbox.retain("state", b"ready")
    for _ in range(2):
        outbox.connected(lambda: [Message("hello", b"1"), Message("hello", b"2")])
        assert taken(outbox) == [("hello", b"1"), ("hello", b"2"), ("state", b"ready")]
        outbox.disconnected([])
    assert outbox.counts.snapshot() == {}


def test_an_answer_that_waits_survives_the_connection(outbox):
    outbox.connected()
    outbox.announce(Message("stats", b"1"))
    outbox.announce(Message("reply", b"2", qos=1, is_kept=True))
    outbox.disconnected([Message("r", b"0")])
    outbox.connected()
    assert taken(outbox) == [("r", b"0"), ("reply", b"2")]
    assert outbox.counts.snapshot() == {"broker_away": 1}


def test_answers_that_survive_are_bounded(outbox, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANNOUNCEMENTS", 3)
    for first in (b"1", b"3"):
        outbox.connected()
        outbox.announce(Message("reply", first, is_kept=True))
        outbox.announce(Message("reply", b"x", is_kept=True))
        outbox.disconnected([])
    outbox.connected()
    assert taken(outbox) == [("reply", b"1"), ("reply", b"x"), ("reply", b"3")]
    assert outbox.counts.snapshot() == {"broker_away": 1}


def test_what_a_connection_left_unfinished_goes_first_on_the_next_in_order(outbox):
    outbox.connected()
    outbox.disconnected([Message("r", b"1"), Message("r", b"2")])
    outbox.connected()
    assert outbox.take().payload == b"1"
    outbox.disconnected([Message("r", b"1")])  # and 2 was not even taken
    outbox.connected()
    assert taken(outbox) == [("r", b"1"), ("r", b"2")]


def test_only_results_and_answers_survive():
    retained = Message("state", b"ready", qos=1, is_retained=True)
    result, answer = Message("r", b"1", ticket=Ticket(1, RESULT)), Message("reply", b"2", qos=1, is_kept=True)
    assert survivors([retained, result, Message("stats", b"s"), answer], 0.1) == ([result, answer], None)
    assert survivors([retained], 0.1) == ([], None)


def test_a_message_that_ends_every_connection_is_given_up():
    poison = Message("r", b"poison", ticket=Ticket(1, RESULT))
    innocent = Message("r", b"innocent", ticket=Ticket(2, RESULT))
    for _ in range(MAX_BREAKS - 1):
        assert survivors([poison, innocent], 0.1) == ([poison, innocent], None)
    assert survivors([poison, innocent], 0.1) == ([innocent], poison)
    assert (poison.ticket.breaks, innocent.ticket.breaks) == (MAX_BREAKS, 0)


def test_a_value_of_which_only_the_newest_counts_takes_the_place_of_one_that_waits(outbox):
    outbox.connected(list)
    outbox.retain("picture", b"1", newest_only=True)
    outbox.retain("other", b"2")
    outbox.retain("picture", b"3", newest_only=True)
    assert [outbox.take().payload for _ in range(2)] == [b"3", b"2"]
    assert outbox.take() is None
    outbox.retain("picture", b"4", newest_only=True)
    assert outbox.take().payload == b"4"


def test_a_birth_is_made_for_each_connection(outbox):
    outbox.retain_each("birth", lambda number: b"%d" % number)
    for number in (b"1", b"2"):
        outbox.connected(list)
        assert taken(outbox) == [("birth", number)]
        outbox.disconnected([])
    outbox.connected(list)
    taken(outbox)
    outbox.retain_each("birth", lambda number: b"new %d" % number)
    assert taken(outbox) == [("birth", b"new 3")]


def test_a_message_that_was_long_in_flight_did_not_end_the_connection():
    """A link that is bad takes a while to be noticed; five of these are no reason to give a result up."""
    message = Message("r", b"1", qos=1, ticket=Ticket(1, RESULT))
    for _ in range(3 * MAX_BREAKS):
        assert survivors([message], 6.0) == ([message], None)


def test_a_flood_of_answers_displaces_nothing(outbox, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANNOUNCEMENTS", 40)
    outbox.connected()
    outbox.retain("state", b"ready")
    for number in range(100):
        outbox.announce(Message("answer", b"%d" % number, qos=1, is_kept=True))
    for number in range(20):
        outbox.announce(Message("stats", b"%d" % number))
    waiting = taken(outbox)
    assert waiting[0] == ("state", b"ready")
    assert sum(topic == "answer" for topic, _ in waiting) < 33
    assert waiting[-1] == ("stats", b"19")
    assert len(waiting) == 40
