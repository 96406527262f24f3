"""What MQTT 5 adds, commands, and several brokers. Needs mosquitto."""

from __future__ import annotations

import json
import queue

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgert.publish.mqtt import PahoSession
from edgert.publish.options import MqttOptions
from edgert.publish.session import Attempt, Message
from edgert.publish.ticket import Ticket
from edgert.publish.waker import Waker
from tests.fakes.broker import Mosquitto, Subscriber, free_port
from tests.fakes.log_watch import LogWatch
from tests.fakes.mqtt_node import MqttNode, is_result, make_result

pytestmark = pytest.mark.system

STATE = "edgert/n/state"
TIMEOUT_S = 15.0
SOURCES = 25  # topics, more than the ten that mosquitto allows aliases for


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


class Peer:
    """A client that speaks MQTT 5: it sends commands and keeps what arrives with its properties."""

    def __init__(self, port, topic):
        self.arrived = queue.SimpleQueue()
        is_subscribed = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_subscribe = lambda *_: is_subscribed.put(True)
        self._client.on_message = lambda _client, _data, message: self.arrived.put(message)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        is_subscribed.get(timeout=TIMEOUT_S)

    def ask(self, topic, payload, reply, correlation):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = reply
        properties.CorrelationData = correlation
        self._client.publish(topic, payload, qos=1, properties=properties)

    def next(self):
        return self.arrived.get(timeout=TIMEOUT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets()


def answering(connection):
    """Return a listener that answers with what it was told."""

    def reply(received):
        connection.answer(received.response_topic or "reply", received.payload, received.correlation)

    return reply


def send_rounds(node, rounds):
    for seq in range(rounds):
        for number in range(SOURCES):
            result = make_result(seq)
            result.source = f"door{number}"
            node.sink.send(result)


def places(messages):
    return [(message.topic, json.loads(message.payload)["source"]) for message in messages]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_topics_that_are_sent_as_numbers_arrive_as_topics_also_after_a_reconnect(broker, qos):
    with LogWatch() as log, MqttNode(broker.port, qos=qos) as node:
        log.wait_for("connected")
        for _ in range(2):
            with Subscriber(broker.port, "edgert/n/source/#") as subscriber:
                send_rounds(node, 4)
                last = f"edgert/n/source/door{SOURCES - 1}/result/classifier"
                subscriber.wait_for(lambda m: m.topic == last and json.loads(m.payload)["seq"] == 3)  # noqa: B023
                found = places(subscriber.messages)
            assert len(found) == 4 * SOURCES
            assert all(topic == f"edgert/n/source/{source}/result/classifier" for topic, source in found)
            broker.kill()
            log.wait_for("connection was lost")
            broker.start()
            log.wait_for("connected")
    assert node.sink.statistics().sent == 8 * SOURCES


def connected(session, waker):
    session.connect()
    while not session.is_connected:
        session.pump(waker.fileno(), 0.1)


def test_properties_arrive(broker, tmp_path):
    waker = Waker()
    waker.open()
    will = Message(STATE, b"lost", qos=1, is_retained=True)
    session = PahoSession(MqttOptions(), Attempt("5", "127.0.0.1", broker.port, will), "c", tmp_path.joinpath)
    with Peer(broker.port, "t/#") as peer:
        connected(session, waker)
        result = make_result(0)
        for number in range(2):  # the second time without its topic
            message = Message(
                "t/a",
                b"%d" % number,
                qos=1,
                ticket=Ticket(number, result),
                content_type="application/json",
                expiry_s=600,
                correlation=b"\0id",
                user_properties=(("encoding", "gzip"), ("kind", "x")),
            )
            session.publish(message)
        assert session._aliases.find("t/a") == ("", 1)
        for number in range(2):
            arrived = peer.next()
            assert (arrived.topic, arrived.payload) == ("t/a", b"%d" % number)
            properties = arrived.properties
            assert properties.ContentType == "application/json"
            assert 0 < properties.MessageExpiryInterval <= 600
            assert properties.CorrelationData == b"\0id"
            assert properties.UserProperty == [("encoding", "gzip"), ("kind", "x")]
    session.close()
    waker.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_command_is_heard_and_answered_also_after_a_reconnect(broker, protocol):
    with LogWatch() as log, MqttNode(broker.port, protocol=protocol) as node:
        connection = node.sink.connection
        connection.listen("cmd/+", answering(connection))
        log.wait_for("connected")
        for number in range(2):
            with Peer(broker.port, "reply/#") as peer:
                wait_until_heard(peer, b"%d" % number)
                peer.ask("edgert/n/cmd/reload", b"now", "reply/1", b"id")
                answer = peer.next()
                while answer.payload != b"now":  # one more of those that were to wait
                    answer = peer.next()
                if protocol == "5":
                    assert (answer.topic, answer.properties.CorrelationData) == ("reply/1", b"id")
            if number == 0:
                broker.kill()
                log.wait_for("connection was lost")
                broker.start()
                log.wait_for("connected")
        assert connection.counts["listener_failed"] == 0


def wait_until_heard(peer, payload):
    """Ask until there is an answer: the node's subscription may come after its connection."""
    for _ in range(150):
        peer.ask("edgert/n/cmd/hello", payload, "reply/hello", b"")
        try:
            assert peer.arrived.get(timeout=0.1).payload == payload
        except queue.Empty:
            continue
        return
    raise AssertionError("nobody answered")


def test_a_command_over_the_limit_does_not_reach_the_node(broker):
    heard = queue.SimpleQueue()
    with LogWatch() as log, MqttNode(broker.port) as node, Peer(broker.port, "reply/#") as peer:
        connection = node.sink.connection
        connection.listen("cmd/+", lambda received: heard.put(len(received.payload)) or reply(received))
        reply = answering(connection)
        log.wait_for("connected")
        wait_until_heard(peer, b"1")
        peer.ask("edgert/n/cmd/x", b"x" * 2_000_000, "reply/large", b"")
        peer.ask("edgert/n/cmd/x", b"small", "reply/small", b"")
        while peer.next().payload != b"small":
            continue
        sizes = [heard.get() for _ in range(heard.qsize())]
        assert max(sizes) == len(b"small")
        assert node.sink.statistics().is_connected


def test_the_next_broker_is_used_until_it_fails_and_then_the_first_again(tmp_path):
    first, second = Mosquitto(tmp_path), Mosquitto(tmp_path)
    absent = free_port("127.0.0.1")
    brokers = (f"127.0.0.1:{first.port}", f"localhost:{second.port}")
    with LogWatch() as log, second, MqttNode(absent, brokers=brokers, qos=1) as node:
        node.state("ready")
        log.wait_for(f"broker 127.0.0.1:{absent}: cannot be reached: Connection refused")
        log.wait_for(f"broker 127.0.0.1:{first.port}: cannot be reached: Connection refused")
        log.wait_for(f"broker localhost:{second.port}: connected with MQTT 5")
        with first:
            with Subscriber(second.port) as subscriber:  # it stays here, though the first is back
                node.send()
                subscriber.wait_for(lambda m: is_result(m, 0))
            with Subscriber(first.port) as subscriber:
                second.kill()
                log.wait_for(f"broker localhost:{second.port}: the connection was lost")
                log.wait_for(f"broker 127.0.0.1:{first.port}: connected with MQTT 5")
                node.send()
                subscriber.wait_payload(STATE, b"ready")
                subscriber.wait_for(lambda m: is_result(m, 1))
                node.close()
                subscriber.wait_payload(STATE, b"disconnected")
    assert node.sink.statistics().acknowledged == 2


def test_a_broker_on_ipv6(tmp_path):
    with Mosquitto(tmp_path, host="::1", port=free_port("127.0.0.1")) as broker, LogWatch() as log:
        with MqttNode(free_port("127.0.0.1"), brokers=(f"[::1]:{broker.port}",)) as node:
            log.wait_for(f"broker [::1]:{broker.port}: connected with MQTT 5")
            node.send()
        assert node.sink.statistics().sent == 1
