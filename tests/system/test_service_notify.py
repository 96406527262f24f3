"""`edgert run` as a unit's process: what the service manager hears, and what subscribers hear of a reload."""

from __future__ import annotations

import json
import signal
import time

import pytest

from edgert.exit_codes import ExitCode
from tests.fakes import store
from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.manager import Manager
from tests.fakes.process import Service, edgert
from tests.fakes.store import Site, noise

pytestmark = pytest.mark.system

DOOR = f'[sources.door]\nuri = "{noise(2)}"\nloop = true\nfps = 50\nmodels = ["mean"]\n'
ABSENT = '[sources.absent]\nuri = "v4l2:/dev/video-that-is-absent"\nmodels = ["mean"]\n'
HUNG_LANE = """
import threading, edgert.execute.host_lane as lane
run, count = lane.run_batch, []
def hang(*work):
    count.append(1)
    return run(*work) if len(count) < 30 else threading.Event().wait()
lane.run_batch = hang
"""


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model())
    return site


@pytest.fixture
def manager(tmp_path, monkeypatch):
    with Manager(str(tmp_path / "notify")) as manager:
        for key, value in manager.environment(watchdog_s=1.0).items():
            monkeypatch.setenv(key, value)
        yield manager


def test_whole_life_as_a_manager_hears_it(site, manager):
    with Service(site.write(DOOR + "[service]\ndrain_s = 2\n")) as service:
        assert manager.next()["STATUS"].startswith("starting")
        manager.wait_for("EXTEND_TIMEOUT_USEC", "60000000")
        ready = manager.wait_for("READY", "1")
        assert ready["STATUS"].startswith("1 of 1 sources online, 1 of 1 models ready, ")
        service.wait_log("systemd is told how the service is, and wants to hear of it every 1 s")
        for _ in range(4):
            manager.wait_for("WATCHDOG", "1")
        pauses_s = [late - early for early, late in zip(manager.came_s[:-1], manager.came_s[1:], strict=True)]
        assert max(pauses_s[-3:]) < 1.0
        service.signal(signal.SIGHUP)
        reloading = manager.wait_for("RELOADING", "1")
        assert abs(int(reloading["MONOTONIC_USEC"]) / 1e6 - time.monotonic()) < 20.0
        manager.wait_for("READY", "1")
        assert service.stop() == ExitCode.OK
        stopping = manager.wait_for("STOPPING", "1")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 2 * 2_000_000
    assert manager.keys("READY", "RELOADING", "STOPPING") == ["READY", "RELOADING", "READY", "STOPPING"]


def test_a_hung_lane_is_named_is_killed_by_nobody_and_says_where_it_hung_when_it_is(site, manager):
    file = site.write(DOOR + "[service]\nhang_s = 1\n")
    with Service(file, prelude=f"exec({HUNG_LANE!r})") as service:
        manager.wait_for("STATUS", "lane 1 of model mean version 1 hangs for ")
        manager.drain()
        quiet_from = len(manager.messages)
        time.sleep(2.0)
        assert not [message for message in manager.drain()[quiet_from:] if "WATCHDOG" in message]
        assert service._process.poll() is None
        service.wait_log("lane 1 of model mean version 1 hangs for .* Threads: .*lane")
        service.signal(signal.SIGABRT)  # what systemd does when WatchdogSec= is over
        assert service.wait() == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in service.log
        assert " in hang\n" in service.log


def test_an_absent_camera_holds_up_neither_ready_nor_the_watchdog(site, manager):
    with Service(site.write(DOOR + ABSENT + "[service]\nhang_s = 0.5\n")) as service:
        ready = manager.wait_for("READY")
        assert "1 of 2 sources online (absent offline)" in ready["STATUS"]
        for _ in range(8):
            manager.wait_for("WATCHDOG")
        assert service.stop() == ExitCode.OK
    assert not [message for message in manager.messages if "hangs" in message.get("STATUS", "")]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("[sources.door\n", ExitCode.CONFIG, "not valid TOML"),
        (DOOR.replace(noise(2), "file:absent.mp4"), ExitCode.CONFIG, "there is no file"),
        (DOOR.replace('["mean"]', '["broken"]'), ExitCode.MODEL, "not a usable ONNX file"),
    ],
)
def test_a_failed_start_says_why_in_status(site, manager, text, code, said):
    site.add("broken", b"no engine")
    assert edgert("run", site.write(text)).returncode == code
    message = manager.wait_for("EXIT_STATUS", str(int(code)))
    assert message["STATUS"].startswith(f"failed with exit code {int(code)}: ")
    assert said in message["STATUS"]
    assert manager.keys("READY") == []


def test_the_watchdog_of_another_process_is_left_alone(site, manager, monkeypatch):
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with Service(site.write(DOOR)) as service:
        manager.wait_for("READY")
        service.wait_log("systemd is told how the service is, without a watchdog")
        manager.wait_for("STATUS")
        assert service.stop() == ExitCode.OK
    assert "WATCHDOG" not in {key for message in manager.drain() for key in message}


def test_a_manager_that_goes_away_ends_nothing(site, manager):
    with Service(site.write(DOOR)) as service:
        manager.wait_for("READY")
        manager._socket.close()
        service.wait_log("systemd cannot be told .*Connection refused")
        assert service.stop() == ExitCode.OK


# Reload, as subscribers see it


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


def named(broker, node, sources, qos=0, spool=""):
    """Return a pipeline file's text; `write` puts a node before it, which this replaces."""
    sink = f'[sinks.broker]\ntype = "mqtt"\nport = {broker.port}\nretry_min_s = 0.1\nqos = {qos}\n{spool}'
    return node, "".join(sources) + sink


def write(site, node, text):
    file = site.write(text)
    file.write_text(file.read_text().replace('node = "here"', f'node = "{node}"'))
    return file


def test_another_node_name_comes_out_right_at_the_broker(site, broker, manager):
    with Subscriber(broker.port, "edgert/#") as subscriber:
        with Service(write(site, *named(broker, "porch", [DOOR]))) as service:
            subscriber.wait_payload("edgert/porch/state", b"ready")
            write(site, *named(broker, "attic", [DOOR]))
            service.signal(signal.SIGHUP)
            subscriber.wait_payload("edgert/porch/state", b"disconnected")
            subscriber.wait_payload("edgert/attic/state", b"ready")
            subscriber.wait_for(lambda m: m.topic == "edgert/attic/source/door/result/mean")
            service.wait_log("reloaded: no frame was taken for ")
            assert service.stop() == ExitCode.OK
        subscriber.wait_payload("edgert/attic/state", b"disconnected")
    messages = subscriber.messages
    states = [
        (m.topic.split("/")[1], m.payload)
        for m in messages
        if m.topic.endswith(("porch/state", "attic/state"))
    ]
    life = [b"init", b"ready", b"draining", b"disconnected"]
    assert states == [*(("porch", state) for state in life), *(("attic", state) for state in life)]
    births = [json.loads(m.payload) for m in messages if m.topic.endswith("/birth")]
    assert [birth["node"] for birth in births] == ["porch", "attic"]
    assert births[0]["boot"] != births[1]["boot"]


def test_what_a_node_has_no_more_is_not_retained_any_more(site, broker, manager):
    site.add("other", store.mean_model())
    yard = DOOR.replace("door", "yard").replace('"mean"', '"other"')
    spool = 'spool = { path = "spool.db" }\n'
    with Service(write(site, *named(broker, "here", [DOOR, yard], 1, spool))) as service:
        service.wait_ready()
        write(site, *named(broker, "here", [DOOR], 1, spool))
        service.signal(signal.SIGHUP)
        service.wait_log("reloaded: no frame was taken for ")
        with Subscriber(broker.port, "edgert/here/#") as subscriber:
            subscriber.wait_payload("edgert/here/state", b"ready")
            subscriber.wait_for(lambda m: m.topic.endswith("source/door/state") and b"online" in m.payload)
        assert service.stop() == ExitCode.OK
    retained = {m.topic for m in subscriber.messages if m.retain}
    assert "edgert/here/source/door/state" in retained
    assert not retained & {"edgert/here/source/yard/state", "edgert/here/model/other/state"}
