"""Brokers that are absent, die, hang and return; processes that die and end. Needs mosquitto."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.log_watch import LogWatch
from tests.fakes.mqtt_node import MqttNode, is_result, numbers

pytestmark = pytest.mark.system

STATE = "edgert/n/state"


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()


def test_results_and_states_of_a_whole_life(broker):
    broker.start()
    with Subscriber(broker.port, "edgert/#") as subscriber, MqttNode(broker.port) as node:
        for state in ("init", "ready"):
            node.state(state)
            subscriber.wait_payload(STATE, state.encode())
        node.send(3)
        message = subscriber.wait_for(lambda m: is_result(m, 2))
        assert message.topic == "edgert/n/source/porch/result/classifier"
        assert json.loads(message.payload)["historical"] is False
        node.state("draining")
        node.send()
        node.close()
        subscriber.wait_payload(STATE, b"disconnected")
        assert numbers(subscriber.messages) == [0, 1, 2, 3]


def test_a_clean_stop_leaves_disconnected_and_no_will(broker):
    broker.start()
    with MqttNode(broker.port) as node:
        node.state("ready")
        began = time.monotonic()
        node.close()
        assert time.monotonic() - began < 5.0
    with Subscriber(broker.port) as subscriber:
        assert subscriber.wait_for(lambda m: m.topic == STATE).payload == b"disconnected"
        subscriber.publish("end", b"")
        subscriber.wait_payload("end", b"")
    assert b"lost" not in [message.payload for message in subscriber.messages]


def test_a_broker_that_is_absent_at_the_start_gets_everything_when_it_appears(broker):
    with LogWatch() as log, MqttNode(broker.port) as node:
        node.state("ready")
        node.sink.announcer.publish_retained("birth", b"{}")
        log.wait_for("cannot be reached: Connection refused")
        node.send(3)
        broker.start()
        with Subscriber(broker.port) as subscriber:
            log.wait_for("connected with MQTT 5")
            node.send()
            subscriber.wait_payload("edgert/n/birth", b"{}")
            subscriber.wait_payload(STATE, b"ready")
            subscriber.wait_for(lambda m: is_result(m, 3))
        assert len([line for line in log.warnings() if "Connection refused" in line]) == 1
    assert node.sink.statistics().sent == 4


def test_after_the_broker_was_killed_states_return_and_results_resume(broker):
    broker.start()
    with LogWatch() as log, MqttNode(broker.port, queue=5) as node:
        node.state("ready")
        node.send()
        with Subscriber(broker.port) as subscriber:
            subscriber.wait_payload(STATE, b"ready")
            broker.kill()
            log.wait_for("the connection was lost")
            log.wait_for("cannot be reached")
            node.send(9)
            broker.start()  # it has forgotten everything
            subscriber.wait_subscribed()  # both reconnect by themselves
            subscriber.wait_payload(STATE, b"ready")
            node.send()
            live = subscriber.wait_for(lambda m: is_result(m, 10))
        assert json.loads(live.payload)["historical"] is False
    statistics = node.sink.statistics()
    assert statistics.dropped == {"broker_away": 4}
    assert statistics.sent == 7


def test_with_qos_1_nothing_is_lost_over_many_deaths_of_the_broker(broker):
    broker.settings = ("allow_anonymous true", "max_queued_messages 0")
    broker.start()
    with LogWatch() as log, MqttNode(broker.port, qos=1) as node:
        log.wait_for("connected")
        arrived = []
        for _ in range(5):
            with Subscriber(broker.port, "edgert/n/source/#") as subscriber:
                node.send(30)
                subscriber.wait_for(lambda m: is_result(m, node.sent - 20))
                broker.kill()  # with some in flight
                log.wait_for("connection was lost")
                node.send(10)
                arrived += numbers(subscriber.messages)
            broker.start()
            log.wait_for("connected")
        with Subscriber(broker.port, "edgert/n/source/#") as subscriber:
            node.send()
            subscriber.wait_for(lambda m: is_result(m, node.sent - 1))
            node.close()
        statistics = node.sink.statistics()
    assert statistics.sent == statistics.acknowledged == node.sent
    assert statistics.dropped == {}
    assert statistics.refused == 0
    duplicates = len(arrived) - len(set(arrived))
    assert duplicates <= 5 * 20  # what was in flight at each death, at most


def test_a_broker_that_hangs_is_noticed_and_does_not_hold_up_anything(broker):
    broker.start()
    with LogWatch() as log, MqttNode(broker.port, keep_alive_s=2, queue=10) as node:
        log.wait_for("connected")
        broker.suspend()
        began = time.monotonic()
        node.send(1000)
        assert time.monotonic() - began < 1.0
        log.wait_for("the connection was lost")
        assert time.monotonic() - began < 1.5 * 2 + 1.5  # and how often it looks
        began = time.monotonic()
        node.sink.close(timeout_s=0.5)
        assert time.monotonic() - began < 6.0  # an attempt may be blocked in connect
        broker.resume()


NODE = """
import sys
from edgert.publish.factory import open_sink
from edgert.publish.options import MqttOptions
sink = open_sink("m", MqttOptions(port=int(sys.argv[1])), "n", "boot")
sink.announcer.publish_state("ready")
sys.stdin.read()
"""


@pytest.fixture
def child(broker):
    broker.start()
    child = subprocess.Popen([sys.executable, "-c", NODE, str(broker.port)], stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.wait()
    child.stdin.close()


def test_a_node_that_is_killed_is_lost_and_that_is_retained(broker, child):
    with Subscriber(broker.port) as subscriber:
        subscriber.wait_payload(STATE, b"ready")
        child.kill()
        subscriber.wait_payload(STATE, b"lost")
    with Subscriber(broker.port) as subscriber:
        assert subscriber.wait_payload(STATE, b"lost").retain


def test_a_node_that_returns_replaces_lost(broker, child):
    with Subscriber(broker.port) as subscriber:
        subscriber.wait_payload(STATE, b"ready")
        child.kill()
        subscriber.wait_payload(STATE, b"lost")
        with MqttNode(broker.port) as node:
            node.state("ready")
            subscriber.wait_payload(STATE, b"ready")


def test_two_nodes_with_one_client_id_are_told(broker):
    """mosquitto 2.0 ends the older connection without saying why; later versions say so."""
    broker.start()
    with LogWatch() as log, MqttNode(broker.port, client_id="same"):
        log.wait_for("connected with MQTT 5")
        with MqttNode(broker.port, client_id="same"):
            assert "client_id" in log.wait_for("another client")
