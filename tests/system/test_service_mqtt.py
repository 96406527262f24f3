"""`edgert run` and a real broker: states, birth, results, the will. Needs mosquitto."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edgert.client import Client
from edgert.exit_codes import ExitCode
from edgert.publish.payload import result_schema
from tests.fakes import store
from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.process import Service
from tests.fakes.store import Site, noise

pytestmark = pytest.mark.system

PREFIX = "edgert/here/"
ENDLESS = f'uri = "{noise(2)}"\nloop = true\nfps = 50'
PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model())
    return site


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    yield broker
    broker.kill()


def pipeline(site, broker, source=ENDLESS, extra=""):
    sink = f'[sinks.broker]\ntype = "mqtt"\nport = {broker.port}\nretry_min_s = 0.1\nqos = 1\n'
    return site.write(f'[sources.door]\n{source}\nmodels = ["mean"]\n{sink}{extra}')


def retained(port, count):
    """Return what a newcomer finds retained, by topic without its prefix, once that is `count` topics."""
    found = {}
    with Subscriber(port, PREFIX + "#") as subscriber:
        while len(found) < count:
            message = subscriber.wait_for(lambda m: m.retain)
            found[message.topic.removeprefix(PREFIX)] = message.payload
    return found


def test_whole_life_as_a_subscriber_sees_it(site, broker):
    broker.start()
    with Subscriber(broker.port, PREFIX + "#") as subscriber:
        with Service(pipeline(site, broker, extra="[service]\nstats_s = 0.1\n")) as service:
            for state in (b"init", b"ready"):
                subscriber.wait_payload(PREFIX + "state", state)
            first = subscriber.wait_for(lambda m: "/result/" in m.topic)
            stats = json.loads(subscriber.wait_for(lambda m: m.topic == PREFIX + "stats").payload)
            assert service.stop() == ExitCode.OK
        for state in (b"draining", b"disconnected"):
            subscriber.wait_payload(PREFIX + "state", state)
    messages = subscriber.messages
    states = [message.payload for message in messages if message.topic == PREFIX + "state"]
    assert states == [b"init", b"ready", b"draining", b"disconnected"]
    results = [json.loads(message.payload) for message in messages if "/result/" in message.topic]
    assert first.topic == PREFIX + "source/door/result/mean"
    for result in results:
        Draft202012Validator(result_schema()).validate(result)
    assert [result["seq"] for result in results] == list(range(len(results)))
    assert {result["boot"] for result in results} == {stats["boot"]}
    model_states = [
        json.loads(message.payload)["state"]
        for message in messages
        if message.topic == PREFIX + "model/mean/state"
    ]
    assert model_states == ["LOADING", "READY", "UNAVAILABLE"]
    sources = [json.loads(m.payload)["state"] for m in messages if m.topic == PREFIX + "source/door/state"]
    assert sources[-2:] == ["online", "offline"]
    last = json.loads([message.payload for message in messages if message.topic == PREFIX + "stats"][-1])
    link = last["sources"]["door"]["models"]["mean"]
    assert link["published"] == link["admitted"] == len(results)


def test_newcomer_finds_state_birth_and_the_states_of_sources_and_models(site, broker):
    broker.start()
    with Subscriber(broker.port, PREFIX + "#") as before, Service(pipeline(site, broker)) as service:
        last = {
            "birth": b"{",
            "model/mean/state": b"READY",
            "source/door/state": b"online",
            "state": b"ready",
        }
        while last:  # what the broker has passed on it keeps for the newcomer
            message = before.wait_for(lambda m: True)
            topic = message.topic.removeprefix(PREFIX)
            if last.get(topic, b"\0") in message.payload:
                del last[topic]
        found = retained(broker.port, 4)
        assert service.stop() == ExitCode.OK
    assert found["state"] == b"ready"
    assert json.loads(found["model/mean/state"]) == {"state": "READY", "versions": [1], "reason": ""}
    source = json.loads(found["source/door/state"])
    assert (source["state"], source["reason"], source["refused"]) == ("online", "", {})
    birth = json.loads(found["birth"])
    assert birth.keys() == {
        *("node", "boot", "session", "started_utc_ns", "versions", "device", "models", "sources")
    }
    assert birth["session"] == 1
    assert (birth["node"], birth["models"], birth["sources"]) == (
        "here",
        {"mean": "onnxruntime"},
        {"door": ["mean"]},
    )


def test_killed_process_is_lost(site, broker):
    broker.start()
    with Subscriber(broker.port, PREFIX + "state") as subscriber, Service(pipeline(site, broker)) as service:
        subscriber.wait_payload(PREFIX + "state", b"ready")
        service.signal(signal.SIGKILL)
        subscriber.wait_payload(PREFIX + "state", b"lost")
        assert service.wait() == -signal.SIGKILL


def test_forced_stop_is_lost_too(site, broker):
    broker.start()
    site.add("mean", store.slow_model(40))
    source = f'uri = "{noise(2)}"\nloop = true'
    text = pipeline(site, broker, source, extra="[service]\ndrain_s = 600\n")
    with Subscriber(broker.port, PREFIX + "state") as subscriber, Service(text) as service:
        subscriber.wait_payload(PREFIX + "state", b"ready")
        service.wait_log("source door is online")
        service.signal(signal.SIGINT)
        subscriber.wait_payload(PREFIX + "state", b"draining")
        service.signal(signal.SIGINT)
        subscriber.wait_payload(PREFIX + "state", b"lost")
        assert service.wait() == ExitCode.WORK_LOST


def test_broker_that_appears_later_gets_everything(site, broker):
    uri = f"router+bind:ipc://{site.folder}/in"
    report = site.folder / "report.json"
    with (
        Service(pipeline(site, broker, f'uri = "{uri}"'), "--report", report) as service,
        Client(uri) as client,
    ):
        for _ in range(3):
            client.infer(PICTURE)
        service.wait_log("MQTT broker 127.0.0.1:.* cannot be reached")
        broker.start()
        with Subscriber(broker.port, PREFIX + "#") as subscriber:
            subscriber.wait_for(lambda m: m.topic == PREFIX + "birth")
            subscriber.wait_payload(PREFIX + "state", b"ready")
            client.infer(PICTURE)
            live = subscriber.wait_for(lambda m: "/result/" in m.topic and json.loads(m.payload)["seq"] == 3)
            assert json.loads(live.payload)["historical"] is False
            assert service.stop() == ExitCode.OK
            subscriber.wait_payload(PREFIX + "state", b"disconnected")
        assert len([line for line in service.lines if "cannot be reached" in line]) == 1
    sink = json.loads(report.read_text())["sinks"]["broker"]
    assert (sink["sent"], sink["acknowledged"], sink["dropped"]) == (4, 4, {})


def test_results_of_a_finite_job_are_delivered_before_the_process_ends(site, broker):
    broker.start()
    with Subscriber(broker.port, PREFIX + "#") as subscriber:
        with Service(pipeline(site, broker, f'uri = "{noise(5, total=500)}"')) as service:
            assert service.wait() == ExitCode.OK
        subscriber.wait_payload(PREFIX + "state", b"disconnected")
    seqs = [json.loads(m.payload)["seq"] for m in subscriber.messages if "/result/" in m.topic]
    assert seqs == list(range(500))


def test_broker_that_is_away_for_good_does_not_keep_a_finite_job(site, broker):
    with Service(
        pipeline(site, broker, f'uri = "{noise(5)}"'), "--report", site.folder / "report"
    ) as service:
        assert service.wait() == ExitCode.OK
    report = json.loads((site.folder / "report").read_text())
    assert report["sinks"]["broker"]["dropped"] == {"closed": 5}


def test_password_in_the_uri_of_a_camera_is_neither_logged_nor_published(site, broker):
    broker.start()
    source = 'uri = "rtsp://user:hunter2@127.0.0.1:1/front"\nretry_min_s = 0.01'
    text = pipeline(site, broker, source, '[service]\nlog_level = "debug"\n')
    with Subscriber(broker.port, PREFIX + "#") as subscriber, Service(text) as service:
        subscriber.wait_for(lambda m: m.topic.endswith("door/state") and b"offline" in m.payload)
        service.wait_log("source door is offline")
        assert service.stop() == ExitCode.OK
        subscriber.wait_payload(PREFIX + "state", b"disconnected")
    assert "hunter2" not in service.log
    assert not [m for m in subscriber.messages if b"hunter2" in m.payload]
