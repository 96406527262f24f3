"""Keeping a connection alive, against a broker without a network."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.frames.result import Result, Tensors
from edgert.publish import connector as module
from edgert.publish.backoff import Backoff
from edgert.publish.connection import MqttConnection
from edgert.publish.connector import LOOK_UP_S
from edgert.publish.dialect import NativeDialect
from edgert.publish.options import MqttOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.session import Limits, Message, Received
from edgert.publish.ticket import Ticket
from tests.fakes.mqtt_session import TIMEOUT_S, FakeBroker, FakeSession, refusal

RESULT = Result("porch", 0, "m", 1, 0, 1, 1, 1, Tensors({}))


def make_message(payload, qos=0):
    return Message("edgert/n/r", payload, qos, ticket=Ticket(1, RESULT))


class FakeFeed:
    """Results as plain messages, and what became of them."""

    def __init__(self):
        self.waiting = deque()
        self.is_closed = False
        self.became = {}
        self.stored = deque()  # lists of messages, each of one result
        self.midway = deque()
        self.due_s = 0.0  # for the next of them
        self.connections = []  # when each began, and what it allows
        self.taken_back = []

    def connected(self, connected_mono_ns, inflight):
        self.connections.append((connected_mono_ns, inflight))

    def next_message(self):
        if self.midway:
            return self.midway.popleft()
        return self.waiting.popleft() if self.waiting else None

    def next_stored(self):
        if not self.stored or self.due_s:
            return None
        self.midway.extend(self.stored.popleft())
        return self.midway.popleft()

    def stored_due_s(self):
        return self.due_s if self.stored else None

    @property
    def is_midway(self):
        return bool(self.midway)

    def take_back(self, messages):
        self.taken_back.append([message.payload for message in messages])
        self.waiting.extendleft(reversed(messages))

    @property
    def is_finished(self):
        return self.is_closed and not self.waiting

    def discard(self):
        while self.waiting:
            self._note(self.waiting.popleft(), "discarded")

    def handed_over(self, message):
        if not message.ticket.is_counted:
            message.ticket.is_counted = True
            self._note(message, "sent")

    def acknowledged(self, message):
        self._note(message, "acknowledged")

    def refused(self, message, why):
        self._note(message, f"refused: {why}")

    def too_large(self, message, limit_bytes):
        self._note(message, f"over {limit_bytes}")

    def _note(self, message, what):
        self.became.setdefault(message.payload, []).append(what)


class FakeDialect:
    """A dialect that counts its connections, as Sparkplug does."""

    announces = False
    subscriptions = ("host/state", "cmd/#")

    def __init__(self):
        self.births = 0

    def will(self):
        self.births += 1
        return Message("death", b"%d" % self.births, qos=1)

    def greeting(self):
        return [Message("birth", b"birth %d" % self.births)]

    def farewell(self):
        return Message("death", b"farewell %d" % self.births, qos=1)

    def received(self, received):
        if received.payload == b"bad":
            raise ValueError("bad")
        return [Message("birth", b"again")]


class Setup:
    """A connection to a fake broker. It retries at once."""

    def __init__(self, feed=None, dialect=None, **options):
        self.broker = FakeBroker()
        self.feed = feed or FakeFeed()
        self.dialect = dialect or NativeDialect("edgert/n/", ResultEncoder("n", "b"))
        values = {"retry_min_s": 0.001, "retry_max_s": 0.002, **options}
        self.connection = MqttConnection(
            "m", "edgert/n/", MqttOptions(**values), self.broker.open_session, self.feed, self.dialect
        )

    def open(self):
        """Open, and wait until the broker has accepted."""
        self.connection.open()
        self.broker.wait_for(lambda: self.broker.session)

    def reconnect(self):
        """End the connection and wait for the next."""
        self.broker.break_off()
        self.broker.wait_for(lambda: self.broker.session)

    def send(self, *payloads, qos=0):
        for payload in payloads:
            self.feed.waiting.append(make_message(payload, qos))
        self.connection.wake()

    def close(self, timeout_s=TIMEOUT_S):
        self.feed.is_closed = True
        self.connection.close(timeout_s)


@pytest.fixture
def make_setup():
    setups = []
    before = FakeSession.open_count

    def make(**options):
        setups.append(Setup(**options))
        return setups[-1]

    yield make
    for setup in setups:
        setup.broker.acknowledge()
        setup.close()
    assert FakeSession.open_count == before
    assert not [thread for thread in threading.enumerate() if thread.name == "publish:m"]


@pytest.fixture
def setup(make_setup):
    return make_setup()


def test_states_and_results_go_out_in_order_of_arrival(setup):
    setup.connection.publish_state("init")
    setup.connection.open()
    setup.broker.wait_payloads(b"init")
    setup.send(b"1", b"2")
    setup.broker.wait_payloads(b"init", b"1", b"2")
    setup.connection.publish("stats", b"s")
    setup.broker.wait_payloads(b"init", b"1", b"2", b"s")
    assert [message.topic for message in setup.broker.received] == [
        "edgert/n/state",
        "edgert/n/r",
        "edgert/n/r",
        "edgert/n/stats",
    ]
    assert setup.connection.is_connected


def test_closing_delivers_says_disconnected_and_parts(setup):
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.block(True)
    setup.send(b"1", b"2")
    closer = threading.Thread(target=setup.close)
    closer.start()
    setup.broker.block(False)
    closer.join(TIMEOUT_S)
    assert setup.broker.payloads() == [b"1", b"2", b"disconnected"]
    assert setup.broker.goodbyes == 1
    assert not setup.connection.is_connected
    setup.close()  # again, without effect
    setup.connection.publish_state("ready")  # nor has this


def test_closing_waits_until_disconnected_is_acknowledged(setup):
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.acknowledges = False
    closer = threading.Thread(target=setup.close)
    closer.start()
    setup.broker.wait_payloads(b"disconnected")
    assert setup.broker.goodbyes == 0
    setup.broker.acknowledge()
    closer.join(TIMEOUT_S)
    assert setup.broker.goodbyes == 1


def test_when_time_is_up_it_parts_without_the_acknowledgement(setup):
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.acknowledges = False
    setup.send(b"1", qos=1)
    setup.broker.wait_payloads(b"1")
    setup.close(timeout_s=0.0)
    assert setup.broker.retained["edgert/n/state"] == b"disconnected"
    assert setup.broker.goodbyes == 1


def test_results_that_do_not_get_out_in_time_are_discarded(setup):
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.block(True)
    setup.send(b"1")
    setup.close(timeout_s=0.0)
    assert setup.feed.became == {b"1": ["discarded"]}


def test_an_absent_broker_is_tried_until_it_appears(setup):
    setup.broker.is_up = False
    setup.connection.publish_retained("birth", b"b")
    setup.connection.publish_state("ready")
    setup.connection.open()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) >= 3)
    setup.send(b"1")
    setup.broker.is_up = True
    setup.broker.wait_payloads(b"b", b"ready", b"1")
    assert setup.connection.counts["connected"] == 1
    assert setup.connection.counts["failed"] >= 3


def test_after_a_reconnect_retained_values_come_again_before_results(setup):
    setup.connection.publish_state("ready")
    setup.connection.publish_retained("birth", b"b")
    setup.connection.open()
    setup.broker.wait_payloads(b"b", b"ready")
    setup.broker.go_down()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) >= 2)
    setup.send(b"1")
    setup.connection.publish("stats", b"dropped")
    setup.connection.publish_retained("source/a/state", b"offline")
    setup.broker.is_up = True
    setup.broker.wait_payloads(b"b", b"ready", b"b", b"offline", b"ready", b"1")


def test_results_are_told_when_the_connection_began(setup):
    setup.connection.open()
    setup.send(b"1")
    setup.broker.wait_payloads(b"1")
    setup.broker.break_off()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.send(b"2")
    setup.broker.wait_payloads(b"1", b"2")
    (first_ns, _), (second_ns, inflight) = setup.feed.connections
    assert first_ns < second_ns
    assert inflight == setup.broker.limits.inflight == 20


def test_what_was_not_acknowledged_is_sent_again_and_counted_once(setup):
    setup.broker.acknowledges = False
    setup.connection.open()
    setup.send(b"1", b"2", qos=1)
    setup.broker.wait_payloads(b"1", b"2")
    setup.broker.break_off()
    setup.broker.wait_payloads(b"1", b"2", b"1", b"2")
    setup.broker.acknowledge()
    setup.close()
    assert setup.feed.became == {b"1": ["sent", "acknowledged"], b"2": ["sent", "acknowledged"]}


def test_an_attempt_that_fails_in_any_way_leaves_no_session_open(setup):
    setup.broker.answers = {"5": KeyError("a bug")}
    before = FakeSession.open_count
    with pytest.raises(KeyError):
        setup.connection._connector._connect_as("5")
    assert FakeSession.open_count == before


def test_no_more_is_in_flight_than_the_broker_allows(setup):
    setup.broker.acknowledges = False
    setup.broker.limits = Limits(inflight=2)
    setup.connection.open()
    setup.send(b"1", b"2", b"3", b"4", qos=1)
    setup.broker.wait_payloads(b"1", b"2")
    setup.broker.acknowledge()
    setup.broker.wait_payloads(b"1", b"2", b"3", b"4")


def test_the_broker_limits_qos_and_size(setup):
    setup.broker.limits = Limits(inflight=20, packet_bytes=200, qos=0)
    setup.connection.open()
    setup.send(b"x" * 200, b"small", qos=1)
    setup.connection.publish_retained("birth", b"x" * 200)
    setup.close()
    assert {message.qos for message in setup.broker.received} == {0}
    assert setup.feed.became == {b"x" * 200: ["over 200"], b"small": ["sent"]}


def test_a_refused_message_is_counted_and_not_sent_again(setup, caplog):
    setup.broker.refusals = {"edgert/n/r": "Not authorized", "edgert/n/birth": "Quota exceeded"}
    setup.connection.open()
    setup.send(b"1", qos=1)
    setup.connection.publish_retained("birth", b"b")
    setup.close()
    assert setup.feed.became == {b"1": ["sent", "refused: Not authorized"]}
    assert "edgert/n/birth refused: Quota exceeded" in caplog.text


def test_a_message_that_ends_every_connection_is_given_up(setup):
    setup.broker.acknowledges = False
    setup.connection.open()
    setup.send(b"poison", qos=1)
    for count in range(1, 6):
        setup.broker.wait_for(lambda count=count: setup.broker.payloads().count(b"poison") == count)
        setup.broker.break_off()
    setup.send(b"next", qos=1)
    setup.broker.wait_for(lambda: b"next" in setup.broker.payloads())
    assert setup.feed.became[b"poison"][-1].startswith("refused: every connection")


def test_a_broker_that_refuses_the_version_gets_the_older_one(setup):
    setup.broker.answers = {"5": refusal(try_other_version=True)}
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.break_off()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) == 3)
    assert setup.broker.attempts == ["5", "3.1.1", "3.1.1"]  # it remembers


def test_a_broker_that_does_not_answer_gets_the_older_version(setup, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.01)
    setup.broker.answers = {"5": None}
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    assert setup.broker.attempts == ["5", "3.1.1"]


def test_a_broker_known_to_speak_mqtt_5_is_asked_for_it_first(setup):
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.answers = {"5": refusal(try_other_version=True)}
    setup.broker.break_off()
    setup.broker.wait_for(lambda: setup.broker.session)
    setup.broker.answers = {}
    setup.broker.break_off()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) == 4)
    assert setup.broker.attempts == ["5", "5", "3.1.1", "5"]


def test_a_version_that_is_asked_for_is_the_only_one(make_setup):
    setup = make_setup(protocol="5")
    setup.broker.answers = {"5": refusal(try_other_version=True)}
    setup.connection.open()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) >= 2)
    assert set(setup.broker.attempts) == {"5"}


def test_a_final_refusal_is_said_once_and_tried_again_slowly(make_setup, caplog):
    caplog.set_level(logging.DEBUG)
    setup = make_setup(retry_min_s=0.001, retry_max_s=600.0)
    setup.broker.answers = {"5": refusal(is_final=True)}
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.attempts)
    setup.close()  # does not wait for the long pause
    assert setup.broker.attempts == ["5", "5"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["Sink m: MQTT broker 127.0.0.1:1883: refused the connection"]


@pytest.mark.parametrize("error", [SinkError("gone"), ConfigError("no password file"), RuntimeError("a bug")])
def test_no_error_ends_the_attempts(setup, error):
    setup.broker.answers = {"5": error}
    setup.connection.open()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) >= 2)
    setup.broker.answers = {}
    setup.broker.wait_for(lambda: setup.broker.session)


def test_pauses_grow_until_a_connection_lasts(make_setup, caplog):
    setup = make_setup(retry_min_s=0.001, retry_max_s=600.0)
    waits = []
    setup.connection._backoff = Backoff(1.0, 600.0, draw=lambda: waits.append(1) or 0.9999)
    setup.connection._closing.wait = lambda _: None
    setup.connection.open()
    for count in range(1, 5):
        setup.broker.wait_for(
            lambda count=count: setup.broker.session and len(setup.broker.attempts) == count
        )
        setup.broker.break_off()
    setup.broker.wait_for(lambda: len(setup.broker.attempts) == 5)
    assert setup.connection._backoff.next_s() > 8.0 / 2
    assert "the connection was lost; does another client use the same client_id?" in caplog.text


def test_closing_without_a_connection_makes_one_more_attempt(make_setup):
    setup = make_setup(retry_min_s=600.0, retry_max_s=600.0)
    setup.broker.is_up = False
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.attempts)
    setup.send(b"1")
    setup.broker.is_up = True
    setup.close()
    assert setup.broker.payloads() == [b"1", b"disconnected"]


def test_closing_while_the_broker_stays_away_discards(make_setup):
    setup = make_setup(retry_min_s=600.0, retry_max_s=600.0)
    setup.broker.is_up = False
    setup.connection.open()
    setup.send(b"1")
    setup.close()
    assert len(setup.broker.attempts) <= 2
    assert setup.feed.became == {b"1": ["discarded"]}


def test_closing_interrupts_a_broker_that_does_not_answer(setup):
    setup.broker.answers = {"5": None, "3.1.1": None}
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.attempts)
    setup.close(timeout_s=0.05)


def test_what_was_never_opened_can_be_closed(setup):
    setup.connection.publish_state("ready")
    setup.close()
    assert setup.broker.attempts == []


def test_without_a_dialect_the_node_is_lost_if_it_vanishes(setup):
    setup.open()
    (will,) = setup.broker.wills
    assert (will.topic, will.payload, will.qos, will.is_retained) == ("edgert/n/state", b"lost", 1, True)


def test_a_dialect_says_will_greeting_and_farewell(make_setup):
    setup = make_setup(dialect=FakeDialect())
    setup.send(b"1", b"2")
    setup.open()
    setup.broker.wait_payloads(b"birth 1", b"1", b"2")
    setup.reconnect()
    setup.broker.wait_payloads(b"birth 1", b"1", b"2", b"birth 2")
    setup.close()
    assert setup.broker.payloads()[-1] == b"farewell 2"
    assert [will.payload for will in setup.broker.wills] == [b"1", b"2"]


def test_a_dialect_without_announcements_gets_none(make_setup):
    setup = make_setup(dialect=FakeDialect())
    setup.connection.publish_state("ready")
    setup.connection.publish_retained("birth", b"b")
    setup.open()
    setup.broker.wait_payloads(b"birth 1")
    setup.connection.publish("stats", b"s")
    setup.connection.answer("reply", b"yes")
    setup.broker.wait_payloads(b"birth 1", b"yes")
    setup.connection.publish_state("draining")
    setup.close()
    assert setup.broker.payloads() == [b"birth 1", b"yes", b"farewell 1"]


def test_what_belongs_to_a_connection_is_not_sent_on_the_next(make_setup):
    setup = make_setup(dialect=FakeDialect())
    setup.broker.acknowledges = False
    setup.open()
    closer = threading.Thread(target=setup.close)
    closer.start()
    setup.broker.wait_payloads(b"birth 1", b"farewell 1")
    setup.broker.break_off()
    setup.broker.wait_payloads(b"birth 1", b"farewell 1", b"birth 2", b"farewell 2")
    setup.broker.acknowledge()
    closer.join(TIMEOUT_S)
    assert setup.broker.goodbyes == 1


def test_farewell_comes_after_results_that_an_earlier_connection_left(setup):
    setup.broker.acknowledges = False
    setup.open()
    setup.send(b"1", b"2", b"3", qos=1)
    setup.broker.wait_payloads(b"1", b"2", b"3")
    setup.broker.limits = Limits(inflight=1)
    setup.reconnect()
    setup.broker.wait_payloads(b"1", b"2", b"3", b"1")
    closer = threading.Thread(target=setup.close)
    closer.start()
    setup.broker.acknowledge()
    closer.join(TIMEOUT_S)
    assert setup.broker.payloads()[3:] == [b"1", b"2", b"3", b"disconnected"]


def test_a_dialect_answers_what_it_subscribed_to(make_setup, caplog):
    setup = make_setup(dialect=FakeDialect())
    setup.open()
    setup.broker.wait_payloads(b"birth 1")
    assert setup.broker.subscriptions == ["host/state", "cmd/#"]
    for topic, payload in (("cmd/x", b"bad"), ("cmd", b"good"), ("elsewhere", b"good")):
        setup.broker.deliver(topic, payload)
    setup.broker.wait_payloads(b"birth 1", b"again")
    setup.close()
    assert setup.broker.payloads() == [b"birth 1", b"again", b"farewell 1"]
    assert setup.connection.counts["listener_failed"] == 1
    assert "a message of cmd/x was not handled" in caplog.text


def test_listeners_hear_on_every_connection(setup):
    heard = queue.SimpleQueue()
    setup.connection.listen("cmd/+", heard.put)
    setup.open()
    setup.broker.wait_for(lambda: setup.broker.subscriptions == ["edgert/n/cmd/+"])
    setup.connection.listen_to("homeassistant/status", heard.put)
    setup.broker.wait_for(lambda: setup.broker.subscriptions == ["edgert/n/cmd/+", "homeassistant/status"])
    setup.reconnect()
    setup.broker.wait_for(lambda: setup.broker.subscriptions[2:] == setup.broker.subscriptions[:2])
    setup.broker.deliver("edgert/n/cmd/reload", b"1", response_topic="r", correlation=b"c")
    assert heard.get(timeout=TIMEOUT_S) == Received("edgert/n/cmd/reload", b"1", False, "r", b"c")
    setup.broker.deliver("homeassistant/status", b"online")
    assert heard.get(timeout=TIMEOUT_S).payload == b"online"


def test_a_listener_answers_on_the_connections_thread(setup):
    def reply(received):
        assert threading.current_thread().name == "publish:m"
        setup.connection.answer(received.response_topic, b"done", received.correlation)

    setup.connection.listen("cmd/+", reply)
    setup.open()
    setup.broker.deliver("edgert/n/cmd/reload", b"", response_topic="r", correlation=b"c")
    setup.broker.wait_payloads(b"done")
    (answer,) = setup.broker.received
    assert (answer.topic, answer.correlation, answer.qos, answer.is_retained) == ("r", b"c", 1, False)


def test_what_a_listener_raises_ends_nothing(setup):
    setup.connection.listen("cmd/+", lambda _: 1 / 0)
    setup.open()
    setup.broker.deliver("edgert/n/cmd/reload")
    setup.send(b"1")
    setup.broker.wait_payloads(b"1")
    setup.close()
    assert setup.connection.counts.snapshot() == {"connected": 1, "listener_failed": 1}


def test_a_command_that_came_in_as_the_connection_broke_is_heard(setup):
    heard = queue.SimpleQueue()
    setup.connection.listen("cmd/+", heard.put)
    setup.open()
    setup.broker.session.arrived.append(Received("edgert/n/cmd/reload", b""))
    setup.broker.break_off()
    assert heard.get(timeout=TIMEOUT_S).topic == "edgert/n/cmd/reload"


def test_a_refused_subscription_says_what_to_check(setup, caplog):
    setup.broker.refused_filters = {"edgert/n/cmd/+": "Not authorized"}
    setup.connection.listen("cmd/+", print)
    setup.open()
    setup.broker.wait_for(lambda: setup.broker.subscriptions)
    setup.send(b"1")
    setup.close()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "Sink m: the broker refuses to send edgert/n/cmd/+: Not authorized (check its access list)"
    ]


def test_an_answer_is_dropped_and_counted_while_the_broker_is_away(setup):
    setup.connection.answer("r", b"early")
    assert setup.connection.dropped.snapshot() == {"broker_away": 1}
    setup.open()
    setup.close()
    assert setup.broker.payloads() == [b"disconnected"]


def test_an_answer_without_an_acknowledgement_is_sent_again_but_not_for_ever(setup):
    setup.broker.acknowledges = False
    setup.open()
    setup.connection.answer("r", b"yes")
    for count in range(1, 6):
        setup.broker.wait_for(lambda count=count: setup.broker.payloads() == [b"yes"] * count)
        setup.broker.break_off()
    setup.broker.wait_for(lambda: setup.broker.session)
    assert setup.connection.dropped.snapshot() == {"given_up": 1}


def test_the_feed_gets_its_results_back_and_the_outbox_the_rest(make_setup):
    setup = make_setup()
    setup.broker.acknowledges = False
    setup.open()
    setup.send(b"1", b"2", qos=1)
    setup.broker.wait_payloads(b"1", b"2")
    setup.connection.answer("r", b"yes")
    setup.broker.wait_payloads(b"1", b"2", b"yes")
    setup.broker.break_off()
    setup.broker.wait_payloads(b"1", b"2", b"yes", b"yes", b"1", b"2")
    assert setup.feed.taken_back == [[b"1", b"2"]]
    setup.broker.acknowledge()
    setup.close()
    assert setup.feed.taken_back == [[b"1", b"2"], []]
    assert setup.feed.became[b"1"] == ["sent", "acknowledged"]


def test_a_result_that_ends_every_connection_is_not_given_back(make_setup):
    setup = make_setup()
    setup.broker.acknowledges = False
    setup.open()
    setup.send(b"poison", b"next", qos=1)
    for count in range(1, 6):
        setup.broker.wait_for(lambda count=count: setup.broker.payloads() == [b"poison", b"next"] * count)
        setup.broker.break_off()
    setup.broker.wait_for(lambda: setup.broker.payloads()[10:] == [b"next"])
    assert setup.feed.became[b"poison"][-1].startswith("refused: every connection")
    assert setup.feed.taken_back[-1] == [b"next"]


def test_properties_count_for_the_size_of_a_message(setup):
    setup.broker.limits = Limits(inflight=20, packet_bytes=150)
    setup.open()
    setup.connection.answer("r", b"x" * 60, correlation=b"c" * 60)
    setup.connection.answer("r", b"y" * 60)
    setup.close()
    assert setup.broker.payloads() == [b"y" * 60, b"disconnected"]


BROKERS = {"host": "a", "brokers": ("b:2000", "[::1]")}


def test_the_next_broker_is_tried_at_once(make_setup, caplog):
    caplog.set_level(logging.INFO)
    setup = make_setup(retry_min_s=600.0, retry_max_s=600.0, **BROKERS)
    setup.broker.absent = {"a", "b"}
    setup.open()
    assert setup.broker.hosts == ["a", "b", "::1"]
    setup.broker.wait_for(lambda: setup.broker.pumps)
    assert [record.getMessage() for record in caplog.records] == [
        "Sink m: MQTT broker a:1883: cannot be reached: Connection refused",
        "Sink m: MQTT broker b:2000: cannot be reached: Connection refused",
        "Sink m: MQTT broker [::1]:1883: connected with MQTT 5",
    ]
    assert setup.connection.counts.snapshot() == {"failed": 2, "connected": 1}


def test_a_broker_that_does_not_accept_is_passed_over(make_setup):
    setup = make_setup(retry_min_s=600.0, retry_max_s=600.0, **BROKERS)
    setup.broker.answers = {"a": refusal(is_final=True)}
    setup.open()
    assert setup.broker.hosts == ["a", "b"]


def test_a_reconnect_begins_with_the_first_broker(make_setup):
    setup = make_setup(**BROKERS)
    setup.broker.absent = {"a"}
    setup.open()
    setup.broker.absent = set()
    setup.send(b"1")
    setup.broker.wait_payloads(b"1")  # at b, where it stays
    setup.reconnect()
    assert setup.broker.hosts == ["a", "b", "a"]


def test_a_pause_comes_after_a_whole_round(make_setup):
    setup = make_setup(retry_min_s=600.0, retry_max_s=600.0, **BROKERS)
    pauses = queue.SimpleQueue()
    setup.connection._closing.wait = lambda _: pauses.put(list(setup.broker.hosts))
    setup.broker.is_up = False
    setup.connection.open()
    for rounds in (1, 2):
        assert pauses.get(timeout=TIMEOUT_S) == ["a", "b", "::1"] * rounds
    del setup.connection._closing.wait


@pytest.mark.parametrize(("finals", "is_long"), [(("a", "b", "::1"), True), (("b", "::1"), False)])
def test_the_pause_is_long_only_if_every_broker_has_said_no(make_setup, finals, is_long):
    setup = make_setup(retry_min_s=1.0, retry_max_s=600.0, **BROKERS)
    pauses = queue.SimpleQueue()
    setup.broker.answers = {host: refusal(is_final=True) for host in finals}
    setup.broker.absent = {"a", "b", "::1"} - set(finals)
    setup.connection._closing.wait = pauses.put
    setup.connection.open()
    assert (pauses.get(timeout=TIMEOUT_S) >= 300.0) == is_long
    del setup.connection._closing.wait


def test_each_broker_keeps_its_own_version(make_setup):
    setup = make_setup(host="a", brokers=("b",))
    setup.broker.answers = {"a": refusal(try_other_version=True)}
    setup.open()
    setup.reconnect()
    pairs = list(zip(setup.broker.hosts, setup.broker.attempts, strict=True))
    once = [("a", "5"), ("a", "3.1.1"), ("b", "5")]
    assert pairs == once * 2


def test_closing_that_is_late_asks_no_further_broker(make_setup):
    setup = make_setup(**BROKERS)
    setup.broker.answers = {"a": None}
    setup.connection.open()
    setup.broker.wait_for(lambda: setup.broker.hosts)
    setup.close(timeout_s=0.05)
    assert set(setup.broker.hosts) == {"a"}


# Stored results


def store(setup, *results):
    """Let the feed have stored results, each some payloads."""
    setup.feed.stored.extend([make_message(payload, qos=1) for payload in payloads] for payloads in results)
    setup.connection.wake()


def test_live_results_go_first_together_and_then_stored_ones_alone(setup):
    setup.open()
    setup.broker.block(True)
    setup.send(b"1", b"2", qos=1)
    store(setup, [b"s1"], [b"s2"])
    setup.broker.block(False)
    setup.broker.wait_payloads(b"1", b"2", b"s1", b"s2")
    corks = [(is_corked, payloads) for is_corked, payloads in setup.broker.corks if payloads]
    assert corks == [(False, [b"1", b"2"])]  # and none after


def test_between_two_stored_results_it_looks_for_live_ones(setup):
    setup.open()
    setup.broker.block(True)
    store(setup, [b"s1"], [b"s2"], [b"s3"])

    class Eager(deque):
        """Each time that a stored result is taken, a live one comes."""

        def popleft(self):
            setup.feed.waiting.append(make_message(b"live"))
            return super().popleft()

    setup.feed.stored = Eager(setup.feed.stored)
    setup.broker.block(False)
    setup.broker.wait_payloads(b"s1", b"live", b"s2", b"live", b"s3", b"live")


def test_what_belongs_to_a_stored_result_goes_with_it(setup):
    setup.open()
    setup.broker.block(True)
    store(setup, [b"birth 1", b"s1"], [b"s2"])
    setup.connection.answer("reply", b"yes")
    setup.broker.block(False)
    setup.broker.wait_payloads(b"yes", b"birth 1", b"s1", b"s2")


def test_without_room_the_rest_of_a_stored_result_comes_before_all_else(make_setup):
    setup = make_setup()
    setup.broker.limits = Limits(inflight=1)
    setup.broker.acknowledges = False
    setup.open()
    store(setup, [b"birth 1", b"s1"], [b"s2"])
    setup.broker.wait_payloads(b"birth 1")
    setup.send(b"1", qos=1)
    setup.connection.answer("reply", b"yes")
    setup.broker.acknowledge()
    setup.broker.wait_payloads(b"birth 1", b"s1", b"yes", b"1", b"s2")


def test_it_wakes_when_a_stored_result_is_due(setup):
    setup.feed.due_s = 0.123
    setup.open()
    setup.broker.block(True)
    store(setup, [b"s1"])
    setup.broker.block(False)
    setup.broker.wait_for(lambda: 0.123 in setup.broker.pumps)
    assert setup.broker.payloads() == []
    setup.feed.due_s = 0.0  # by then; nobody wakes it
    setup.broker.wait_payloads(b"s1")


@pytest.mark.parametrize("reason", ["blocked", "window"])
def test_a_stored_result_that_is_due_and_has_no_room_is_waited_for_without_haste(make_setup, reason):
    setup = make_setup()
    setup.broker.limits = Limits(inflight=1)
    setup.broker.acknowledges = False
    setup.open()
    if reason == "blocked":
        setup.broker.block(True)
    else:
        setup.send(b"1", qos=1)
        setup.broker.wait_payloads(b"1")
    store(setup, [b"s1"])
    setup.broker.deliver("x")
    before = len(setup.broker.pumps)
    threading.Event().wait(0.2)
    assert len(setup.broker.pumps) - before <= 4
    assert setup.broker.pumps[-1] == LOOK_UP_S
    setup.broker.block(False)
    setup.broker.acknowledge()
    setup.broker.wait_for(lambda: b"s1" in setup.broker.payloads())


def test_after_the_farewell_no_stored_result_comes(setup):
    setup.broker.acknowledges = False
    setup.open()
    closer = threading.Thread(target=setup.close)
    closer.start()
    setup.broker.wait_payloads(b"disconnected")
    store(setup, [b"s1"])
    setup.broker.acknowledge()
    closer.join(TIMEOUT_S)
    assert setup.broker.payloads() == [b"disconnected"]
    assert setup.connection.has_parted


def test_it_says_whether_it_parted_from_a_broker(make_setup):
    setup = make_setup(retry_min_s=600.0, retry_max_s=600.0)
    setup.broker.is_up = False
    setup.connection.open()
    setup.close()
    assert not setup.connection.has_parted
