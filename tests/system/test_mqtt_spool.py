"""Nothing is lost: brokers that die, hang and stay away, links that are cut, disks that fail, kill -9.

The broker is a real mosquitto; what it has acknowledged is read on the wire. Each result's key is unique.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgert.errors import ConfigError
from edgert.publish.options import SpoolOptions
from edgert.publish.spool_file import SpoolFile
from tests.fakes.broker import Mosquitto
from tests.fakes.log_watch import LogWatch
from tests.fakes.mqtt_node import MqttNode
from tests.fakes.mqtt_wire import Wire

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

RESULTS_PER_S = 200
WINDOW = 20
KEEP_ALIVE_S = 4
UP_S, DOWN_S = 0.25, 0.15  # of a broker that is killed again and again
OUTAGE_S = {"broker": 20.0, "link": 11.0}  # several keep-alives, 20 queues and more
TIMEOUT_S = 60.0
QUICK = {"replay_per_s": 2000}


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def wire(broker):
    with Wire(broker.port) as wire:
        yield wire


def spooling(folder, port, **options):
    """Return a node that spools; its own state goes away with the folder."""
    spool = SpoolOptions(path=str(folder / "results.spool"), **{"flush_s": 0.2, **options.pop("spool", {})})
    values = {"qos": 1, "max_inflight": WINDOW, "keep_alive_s": KEEP_ALIVE_S, "spool": spool, **options}
    return MqttNode(port, **values)


class Sending:
    """Sends results at a steady pace; `longest_s` is how long one `send` took at most."""

    def __init__(self, node):
        self.longest_s = 0.0
        self._node = node
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        due = time.monotonic()
        while not self._is_over.is_set():
            began = time.monotonic()
            self._node.send()
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            due += 1 / RESULTS_PER_S
            self._is_over.wait(max(0.0, due - time.monotonic()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()


def keys(payloads):
    results = [json.loads(payload) for payload in payloads if b"edgert.result/1" in payload]
    return [(result["boot"], result["seq"]) for result in results]


def wait_until(condition, what, timeout_s=TIMEOUT_S):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def wait_for_all(wire, node):
    wanted = {("boot", seq) for seq in range(node.sent)}

    def missing():
        return wanted - set(keys(list(wire.acknowledged)))

    wait_until(lambda: not missing(), "Not everything was acknowledged.")
    assert not missing()


def test_a_broker_that_is_killed_twenty_times_gets_everything(tmp_path, broker, wire):
    kills = 20
    with LogWatch() as log, spooling(tmp_path, wire.port) as node:
        log.wait_for("connected with")
        with Sending(node) as sending:
            for _ in range(kills):
                time.sleep(UP_S)
                broker.kill()
                time.sleep(DOWN_S)
                broker.start()
                log.wait_for("connected with")
        wait_for_all(wire, node)
        statistics = node.sink.statistics()
    assert statistics.dropped == statistics.spool.dropped == {}
    assert sending.longest_s < 0.5
    published = keys(wire.published)
    assert len(published) - len(set(published)) <= kills * WINDOW
    assert node.sent > kills * (UP_S + DOWN_S) * RESULTS_PER_S * 0.8


@pytest.mark.parametrize("fault", ["broker", "link"])
def test_a_long_silent_outage_is_noticed_and_loses_nothing(tmp_path, broker, wire, fault):
    begin, end = {"broker": (broker.suspend, broker.resume), "link": (wire.cut, wire.mend)}[fault]
    with LogWatch() as log, spooling(tmp_path, wire.port, queue=100, spool=QUICK) as node:
        log.wait_for("connected with")
        with Sending(node) as sending:
            time.sleep(1.0)
            began = time.monotonic()
            begin()
            log.wait_for("the connection was lost", KEEP_ALIVE_S * 1.5 + 2)
            assert time.monotonic() - began < KEEP_ALIVE_S * 1.5 + 1
            time.sleep(max(0.0, OUTAGE_S[fault] - (time.monotonic() - began)))
            end()
            log.wait_for("connected with", 30)
        wait_for_all(wire, node)
        assert node.sink.statistics().spool.dropped == {}
    assert sending.longest_s < 0.5


def test_an_outage_beyond_the_budget_drops_the_oldest_exactly_counted(tmp_path, broker, wire):
    with (
        LogWatch() as log,
        spooling(tmp_path, wire.port, queue=10, spool={"max_mb": 1, "replay_per_s": 10_000}) as node,
    ):
        log.wait_for("connected with")
        broker.kill()
        log.wait_for("connection was lost")
        for _ in range(20):
            node.send(1000)
            wait_until(lambda: node.sink.statistics().spool.stored >= node.sent - 1000, "It was not stored.")
        wait_until(lambda: node.sink.statistics().spool.stored == node.sent, "Not all was stored.")
        [lost] = node.sink.statistics().spool.dropped.values()
        kept = node.sink.statistics().spool.results
        assert lost + kept == node.sent == 20_000
        broker.start()
        wait_until(lambda: len(set(keys(list(wire.acknowledged)))) == kept, "Not all came.")
        assert sorted(seq for _, seq in set(keys(wire.acknowledged))) == list(range(lost, node.sent))


CHILD = """
import sys, time, resource
from edgert.publish.options import SpoolOptions
from tests.fakes.mqtt_node import MqttNode
from edgert.publish import spool as module
if int(sys.argv[3]): module.MAX_PENDING = 300
port, path, limit = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
spool = SpoolOptions(path=path, flush_s=0.5)
node = MqttNode(port, qos=1, spool=spool)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
while True:
    node.send()
    print(time.monotonic(), node.sent, node.sink.statistics().spool.dropped, flush=True)
    time.sleep(0.001 if limit else 0.005)
"""


def run_child(port, path, limit=0):
    command = [sys.executable, "-c", CHILD, str(port), str(path), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_after_kill_9_in_an_outage_all_but_the_last_flush_is_there_in_order(tmp_path, broker, wire):
    port = broker.port
    broker.kill()
    path = tmp_path / "results.spool"
    child = run_child(wire.port, path)
    times = []
    for line in child.stdout:
        times.append(float(line.split()[0]))
        if len(times) == 600:
            break
    child.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    child.wait()
    child.stdout.close()
    safe = sum(at < killed - 0.5 - 0.3 for at in times)  # flush_s, and what a busy disk takes
    assert safe > 300
    broker = Mosquitto(tmp_path, port=port)
    with broker, spooling(tmp_path, wire.port):
        wait_until(lambda: len(set(keys(list(wire.acknowledged)))) >= safe, "What was stored did not come.")
        time.sleep(0.5)
        came = [seq for _, seq in keys(wire.acknowledged)]
    assert came == list(range(len(came)))  # none is missing before the last that came
    assert all(json.loads(payload)["historical"] for payload in wire.acknowledged)


def test_a_full_disk_is_counted_and_ends_nothing(tmp_path, broker, wire):
    broker.kill()
    child = run_child(wire.port, tmp_path / "results.spool", limit=200_000)
    try:
        for line in child.stdout:
            if "disk_failed" in line:
                break
            assert float(line.split()[1]) < 20_000, "The disk never failed."
        broker.start()
        wait_until(lambda: len(keys(list(wire.acknowledged))) > 100, "It does not go on.")
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@pytest.mark.parametrize("damage", ["noise", "truncated"])
def test_a_damaged_spool_is_set_aside_counted_and_ends_nothing(tmp_path, broker, wire, damage):
    path = tmp_path / "results.spool"
    file = SpoolFile(path, 1_000_000)
    file.open()
    file.append([(number, 2**60, b"x" * 200) for number in range(1, 1000)])
    file.close()
    content = path.read_bytes()
    path.write_bytes(os.urandom(len(content)) if damage == "noise" else content[: len(content) // 3])
    with LogWatch() as log, spooling(tmp_path, wire.port) as node:
        assert "damaged" in log.wait_for("is kept as")
        node.send(5)
        wait_for_all(wire, node)
        assert node.sink.statistics().spool.set_aside == 1


def test_a_spool_of_another_process_is_an_error(tmp_path, broker):
    with spooling(tmp_path, broker.port), pytest.raises(ConfigError, match="in use by another process"):
        spooling(tmp_path, broker.port)


def test_while_the_broker_takes_everything_nothing_is_written(tmp_path, broker, wire):
    with LogWatch() as log, spooling(tmp_path, wire.port) as node:
        log.wait_for("connected with")
        before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("results.spool*")}
        with Sending(node):
            time.sleep(2.0)
        wait_for_all(wire, node)
        assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("results.spool*")} == before


def test_a_stop_while_the_broker_is_away_loses_nothing_and_says_what_is_left(tmp_path, broker, wire):
    broker.kill()
    with LogWatch() as log:
        with spooling(tmp_path, wire.port) as node:
            node.send(500)
        said = [text for text in log.warnings() if " left" in text]
    assert len(said) == 1
    assert f"500 results are left, on disk in {tmp_path / 'results.spool'}" in said[0]
    broker.start()
    with spooling(tmp_path, wire.port):
        wait_until(lambda: len(set(keys(list(wire.acknowledged)))) == 500, "Not all came.")


def test_stored_results_come_evenly_and_one_at_a_time(tmp_path, broker, wire):
    per_s, stored = 200, 1000
    broker.kill()
    with spooling(tmp_path, wire.port) as node:
        node.send(stored)
    broker.start()
    counts = []
    with spooling(tmp_path, wire.port, spool={"replay_per_s": per_s}):
        wait_until(lambda: wire.published, "Nothing came.")
        due = time.monotonic()
        while len(wire.published) < stored * 0.9:
            due += 0.25
            time.sleep(max(0.0, due - time.monotonic()))
            counts.append(len(wire.published))
        wait_until(lambda: len(set(keys(list(wire.acknowledged)))) == stored, "Not all came.")
    steps = [after - before for before, after in itertools.pairwise(counts)]
    assert max(steps) <= 0.25 * per_s * 1.3
    assert sorted(steps)[len(steps) // 2] == pytest.approx(0.25 * per_s, rel=0.15)
