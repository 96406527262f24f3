"""Commands to `edgert run` through a real broker. Needs mosquitto."""

from __future__ import annotations

import json
import queue

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgert.exit_codes import ExitCode
from tests.fakes import store
from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.process import Service
from tests.fakes.store import Site, noise

pytestmark = pytest.mark.system

PREFIX = "edgert/here/"
WAIT_S = 15.0


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model())
    return site


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path) as broker:
        yield broker


def pipeline(site, broker, protocol="auto"):
    return site.write(
        f'[sources.door]\nuri = "{noise(2)}"\nloop = true\nfps = 50\nmodels = ["mean"]\n'
        f'[sinks.broker]\ntype = "mqtt"\nport = {broker.port}\nprotocol = "{protocol}"\nretry_min_s = 0.1\n'
        '[control]\nallow = ["ping", "drain", "pause:door", "reload", "snapshot"]\nper_minute = 6000\n'
    )


def ask(subscriber, verb, **keys):
    """Send a command as MQTT 3.1.1 can; return its answer."""
    subscriber.publish(f"{PREFIX}cmd/{verb}", json.dumps(keys).encode())
    answer = subscriber.wait_for(lambda m: m.topic == f"{PREFIX}cmd/{verb}/answer")
    assert not answer.retain
    return json.loads(answer.payload)


@pytest.fixture
def sender(broker):
    """Return a client that speaks MQTT 5, with `inbox` for what arrives at `me/#`."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.inbox, subscribed = queue.SimpleQueue(), queue.SimpleQueue()
    client.on_connect = lambda client, *_: client.subscribe("me/#", 1)
    client.on_subscribe = lambda *_: subscribed.put(True)
    client.on_message = lambda _client, _data, message: client.inbox.put(message)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    subscribed.get(timeout=WAIT_S)
    yield client
    client.disconnect()
    client.loop_stop()
    client._reset_sockets()


def wait_heard(subscriber):
    """Ping until there is an answer: nobody but the broker knows when a subscription holds."""
    for _ in range(100):
        subscriber.publish(f"{PREFIX}cmd/ping", b"")
        try:
            subscriber.wait_for(lambda m: m.topic == f"{PREFIX}cmd/ping/answer", 0.3)
        except AssertionError:
            continue
        return
    raise AssertionError("No ping was answered.")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_node_is_paused_reloaded_and_drained(site, broker, protocol):
    with Subscriber(broker.port, PREFIX + "#") as subscriber:
        with Service(pipeline(site, broker, protocol)) as service:
            service.wait_ready()
            wait_heard(subscriber)
            topic = ask(subscriber, "snapshot", source="door")["topic"]
            if not (picture := [m for m in subscriber.messages if m.topic == topic]):
                picture = [subscriber.wait_for(lambda m: m.topic == topic)]
            assert (topic, picture[0].payload[:2]) == (PREFIX + "source/door/snapshot", b"\xff\xd8")
            assert ask(subscriber, "pause", source="door", id="p1") == {
                "status": "ok",
                "message": "",
                "verb": "pause",
                "id": "p1",
                "source": "door",
            }
            subscriber.wait_for(lambda m: m.topic.endswith("door/state") and b'"disabled"' in m.payload)
            assert ask(subscriber, "reload")["status"] == "ok"
            assert ask(subscriber, "unload", model="mean")["status"] == "not_allowed"
            assert ask(subscriber, "sing")["status"] == "unknown_verb"
            assert ask(subscriber, "drain")["status"] == "ok"
            assert service.wait() == ExitCode.OK
        subscriber.wait_payload(PREFIX + "state", b"disconnected")
        stats = [json.loads(m.payload) for m in subscriber.messages if m.topic == PREFIX + "stats"]
        assert {"not_allowed": 1, "unknown_verb": 1}.items() <= stats[-1]["commands"].items()


def test_a_sender_of_mqtt_5_says_where_the_answer_goes(site, broker, sender):
    wanted = Properties(PacketTypes.PUBLISH)
    wanted.ResponseTopic = "me/answers"
    wanted.CorrelationData = b"c1"
    with Service(pipeline(site, broker)) as service, Subscriber(broker.port, PREFIX + "#") as subscriber:
        service.wait_ready()
        wait_heard(subscriber)
        sender.publish(f"{PREFIX}cmd/ping", b'{"id": 5}', qos=1, properties=wanted)
        answer = sender.inbox.get(timeout=WAIT_S)
        assert (answer.topic, answer.properties.CorrelationData) == ("me/answers", b"c1")
        body = json.loads(answer.payload)
        assert (body["status"], body["id"], len(body["boot"])) == ("ok", 5, 16)
        assert service.stop() == ExitCode.OK


def test_a_command_that_the_broker_has_kept_is_refused(site, broker):
    with Subscriber(broker.port, PREFIX + "#") as subscriber:
        subscriber.publish(f"{PREFIX}cmd/drain", b"{}", retain=True)
        with Service(pipeline(site, broker)) as service:
            answer = subscriber.wait_for(lambda m: m.topic == f"{PREFIX}cmd/drain/answer")
            assert json.loads(answer.payload)["status"] == "bad_request"
            wait_heard(subscriber)
            assert service.stop() == ExitCode.OK


def test_commands_are_heard_again_after_the_broker_was_away(site, tmp_path):
    broker = Mosquitto(tmp_path)
    broker.start()
    with Service(pipeline(site, broker)) as service:
        service.wait_ready()
        broker.kill()
        broker.start()
        with Subscriber(broker.port, PREFIX + "#") as subscriber:
            wait_heard(subscriber)
            assert ask(subscriber, "drain")["status"] == "ok"
        assert service.wait() == ExitCode.OK
    broker.kill()
