"""Keeping a connection alive, against a broker without a network."""

from __future__ import annotations

import logging
import threading
from collections import deque

import pytest

from edgert.errors import ConfigError, SinkError
from edgert.frames.result import Result, Tensors
from edgert.publish import connection as module
from edgert.publish.backoff import Backoff
from edgert.publish.connection import MqttConnection
from edgert.publish.options import MqttOptions
from edgert.publish.session import Limits, Message
from tests.fakes.mqtt_session import TIMEOUT_S, FakeBroker, FakeSession, refusal

RESULT = Result("porch", 0, "m", 1, 0, 1, 1, 1, Tensors({}))


class FakeFeed:
    """Results as plain messages, and what became of them."""

    def __init__(self):
        self.waiting = deque()
        self.is_closed = False
        self.became = {}
        self.connected_ns = []
        self.renewed_ns = []

    def next_message(self, connected_mono_ns):
        self.connected_ns.append(connected_mono_ns)
        return self.waiting.popleft() if self.waiting else None

    def renewed(self, message, connected_mono_ns):
        self.renewed_ns.append(connected_mono_ns)
        return message

    @property
    def is_finished(self):
        return self.is_closed and not self.waiting

    def discard(self):
        while self.waiting:
            self._note(self.waiting.popleft(), "discarded")

    def handed_over(self, message):
        self._note(message, "sent")

    def acknowledged(self, message):
        self._note(message, "acknowledged")

    def refused(self, message, why):
        self._note(message, f"refused: {why}")

    def too_large(self, message, limit_bytes):
        self._note(message, f"over {limit_bytes}")

    def _note(self, message, what):
        self.became.setdefault(message.payload, []).append(what)


class Setup:
    """A connection to a fake broker. It retries at once."""

    def __init__(self, **options):
        self.broker = FakeBroker()
        self.feed = FakeFeed()
        values = {"retry_min_s": 0.001, "retry_max_s": 0.002, **options}
        self.connection = MqttConnection(
            "m", "edgert/n/", MqttOptions(**values), self.broker.open_session, self.feed
        )

    def send(self, *payloads, qos=0):
        for payload in payloads:
            self.feed.waiting.append(Message("edgert/n/r", payload, qos, result=RESULT))
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
    assert len(set(setup.feed.connected_ns)) == 2


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


def test_what_is_sent_again_is_renewed_for_the_connection_that_carries_it(setup):
    setup.broker.acknowledges = False
    setup.connection.publish_state("ready")
    setup.connection.open()
    setup.send(b"1", qos=1)
    setup.broker.wait_payloads(b"ready", b"1")
    assert setup.feed.renewed_ns == []
    setup.broker.break_off()
    setup.broker.wait_payloads(b"ready", b"1", b"ready", b"1")
    (renewed_ns,) = setup.feed.renewed_ns
    assert renewed_ns > setup.feed.connected_ns[0]


def test_an_attempt_that_fails_in_any_way_leaves_no_session_open(setup):
    setup.broker.answers = {"5": KeyError("a bug")}
    before = FakeSession.open_count
    with pytest.raises(KeyError):
        setup.connection._connect_as("5")
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
