"""A part of a real line hangs: systemd hears no more of it, and hears again once it goes on."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from edgert.capture.replay import ReplaySource
from edgert.execute import host_lane
from edgert.exit_codes import ExitCode
from edgert.pipeline.pipeline import Pipeline
from edgert.publish.lines import LineOutput
from edgert.service import Service
from edgert.service.notify import Notifier
from tests.fakes import store
from tests.fakes.manager import Manager
from tests.fakes.store import Site, noise

WATCHDOG_S = 0.4
HANG_S = 0.8
WAIT_S = 20.0
SERVICE = f"[service]\nhang_s = {HANG_S}\nstats_s = 0.1\n"
DOOR = f'[sources.door]\nuri = "{noise(2)}"\nloop = true\nfps = 100\nmodels = ["mean"]\n'


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model())
    return site


@pytest.fixture
def manager(tmp_path):
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


class Gate:
    """A function that stops whoever comes by while it is shut."""

    def __init__(self, call):
        self._call = call
        self._is_open = threading.Event()
        self._is_open.set()
        self.shut, self.open = self._is_open.clear, self._is_open.set

    def __call__(self, *arguments, **options):
        assert self._is_open.wait(WAIT_S)
        return self._call(*arguments, **options)

    def __get__(self, own, _):
        return lambda *arguments, **options: self(own, *arguments, **options)


@contextmanager
def running(site, manager, text, steps):
    """Run a service, and take the steps beside it, after READY."""
    failures = []
    notifier = Notifier(manager.address, WATCHDOG_S)
    service = Service(site.load(text), None, notifier)

    def take():
        try:
            manager.wait_for("READY")
            steps(service)
        except BaseException as failure:  # noqa: BLE001 - told by the main thread
            failures.append(failure)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=take, name="test")
    thread.start()
    code = service.run()
    thread.join(WAIT_S)
    notifier.close()
    if failures:
        raise failures[0]
    assert code == ExitCode.OK
    yield service


def pings(manager, duration_s):
    """Return how many signs of life come in a time."""
    deadline, count = time.monotonic() + duration_s, 0
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            count += "WATCHDOG" in manager.next(left_s)
        except TimeoutError:
            break
    return count


def demand_hang(manager, part, shut, open_again):
    """Shut it: the watchdog hears no more, STATUS names the part. Open it: the watchdog hears again."""
    assert pings(manager, 3 * WATCHDOG_S) >= 2
    shut()
    try:
        said = manager.wait_for("STATUS", f"{part} hangs for ")["STATUS"]
        assert re.search(rf"{part} hangs for \d+ s, since \d\d:\d\d:\d\d", said)
        assert pings(manager, 3 * WATCHDOG_S) == 0
    finally:
        open_again()
    manager.wait_for("WATCHDOG")


CASES = {
    "lane 1 of model mean version 1": (host_lane, "run_batch"),
    "decoding": (Pipeline, "_publish"),
    "source door": (ReplaySource, "read"),
    "sink lines": (LineOutput, "write"),
}


@pytest.mark.parametrize("part", CASES)
def test_a_part_that_hangs_is_named_and_ends_the_signs_of_life(site, manager, monkeypatch, caplog, part):
    owner, name = CASES[part]
    gate = Gate(getattr(owner, name))
    monkeypatch.setattr(owner, name, gate)

    def steps(_):
        demand_hang(manager, part, gate.shut, gate.open)

    with running(site, manager, DOOR + SERVICE, steps):
        pass
    assert re.search(rf"{part} hangs for 1 s, .*; systemd is not told that all is well until", caplog.text)
    assert f"{part} goes on" in caplog.text
    assert "(__call__)" in caplog.text or "edgert/" in caplog.text


def test_a_lock_that_nobody_gives_back_is_a_hang(site, manager):
    """The scheduler's own lock, and that of the frames that wait for a model."""

    def steps(service):
        pipeline = service._line.assembly.pipeline
        lock = pipeline.scheduler._lock
        demand_hang(manager, "the scheduler", lock.acquire, lock.release)
        lock = pipeline.models.get("mean").batcher._lock
        demand_hang(manager, "source door", lock.acquire, lock.release)

    with running(site, manager, DOOR + SERVICE, steps):
        pass


def test_the_main_thread_may_hang_too(site, manager):
    def steps(service):
        own = service._line.announcements
        own.stats = gate = Gate(own.stats)
        demand_hang(manager, "the main thread", gate.shut, gate.open)

    with running(site, manager, DOOR + SERVICE, steps):
        pass


def test_who_has_nothing_to_do_does_not_hang(site, manager):
    """A camera and a broker that are away, a socket where nobody sends, a source that has ended or is paused,
    a model that was unloaded."""
    site.add("other", store.mean_model())
    text = f"""
[sources.camera]
uri = "v4l2:/dev/video-that-is-absent"
models = ["mean"]
[sources.silent]
uri = "rtsp://127.0.0.1:1/front"
models = ["mean"]
[sources.requests]
uri = "router+bind:ipc://{site.folder}/in"
models = ["mean", "other"]
[sources.feed]
uri = "sub+connect:ipc://{site.folder}/feed"
models = ["mean"]
[sources.clip]
uri = "{noise(2)}"
models = ["mean"]
[sources.door]
uri = "{noise(2)}"
loop = true
fps = 50
models = ["other"]
[sinks.broker]
type = "mqtt"
port = 1
qos = 1
spool = {{ path = "spool.db", flush_s = 5 }}
[sinks.lines]
type = "lines"
path = "{site.lines}"
"""

    def steps(service):
        service._line.unload("other")
        service._line.changes.pause("door")
        status = manager.wait_for("STATUS", "door disabled")["STATUS"]
        assert re.match(r"\d of 6 sources online \(camera offline, silent offline, ", status)
        assert pings(manager, 5 * HANG_S) >= 5 * HANG_S / WATCHDOG_S
        assert not [message for message in manager.messages if "hangs" in message.get("STATUS", "")]

    with running(site, manager, text + SERVICE, steps):
        pass
