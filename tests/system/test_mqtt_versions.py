"""Brokers that speak one version of MQTT or both. Needs mosquitto; amqtt is a test dependency."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.frames.result import Tensors
from edgert.publish import connector
from tests.fakes.broker import Amqtt, Mosquitto, Subscriber
from tests.fakes.log_watch import LogWatch
from tests.fakes.mqtt_node import MqttNode, is_result, make_result

pytestmark = pytest.mark.system

STATE = "edgert/n/state"


@pytest.mark.parametrize(("protocol", "used"), [("auto", "5"), ("5", "5"), ("3.1.1", "3.1.1")])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_broker_that_speaks_both(tmp_path, protocol, used, qos):
    with Mosquitto(tmp_path) as broker, LogWatch() as log, Subscriber(broker.port) as subscriber:
        with MqttNode(broker.port, protocol=protocol, qos=qos) as node:
            assert log.wait_for("connected with").endswith(f"MQTT {used}")
            node.send(100)
            subscriber.wait_for(lambda m: is_result(m, 99))
        subscriber.wait_payload(STATE, b"disconnected")
        statistics = node.sink.statistics()
        assert (statistics.sent, statistics.acknowledged) == (100, 100 if qos else 0)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_broker_that_speaks_3_1_1_only(tmp_path, monkeypatch, qos):
    """amqtt takes MQTT 5 for something longer, and waits for the rest of it."""
    monkeypatch.setattr(connector, "ANSWER_TIMEOUT_S", 1.0)
    with Amqtt(tmp_path) as broker, LogWatch() as log, Subscriber(broker.port) as subscriber:
        with MqttNode(broker.port, qos=qos) as node:
            assert log.wait_for("connected with").endswith("MQTT 3.1.1")
            node.state("ready")
            subscriber.wait_payload(STATE, b"ready")
            node.send(20)
            subscriber.wait_for(lambda m: is_result(m, 19))
        subscriber.wait_payload(STATE, b"disconnected")
        assert log.warnings() == []


def test_a_message_over_the_brokers_limit_is_dropped_and_the_connection_stays(tmp_path):
    settings = ("allow_anonymous true", "max_packet_size 420")
    with Mosquitto(tmp_path, *settings) as broker, LogWatch() as log, Subscriber(broker.port) as subscriber:
        with MqttNode(broker.port) as node:
            node.sink.send(make_wide_result())
            log.wait_for("is over the broker's 420")
            node.send()
            subscriber.wait_for(lambda m: is_result(m, 0))
        assert node.sink.statistics().dropped == {"too_large": 1}


def make_wide_result():
    result = make_result(77)
    result.output = Tensors({"out": np.zeros(500)})
    return result
