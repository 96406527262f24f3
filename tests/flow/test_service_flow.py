"""The service in this process, with the signals of this process. Forced stops are in tests/system."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from edgert.errors import ConfigError, ModelError
from edgert.exit_codes import ExitCode
from edgert.service import Service
from edgert.stats import LiveCount
from tests.fakes import store
from tests.fakes.line import WAIT_S
from tests.fakes.store import Site, noise

ENDLESS = f'[sources.s]\nuri = "{noise(2)}"\nloop = true\nfps = 200\nmodels = ["mean"]\n'


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model())
    return site


@pytest.fixture(autouse=True)
def process_as_it_was():
    """Check that a service gives back what it took, and take back the rest."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers, hook = [signal.getsignal(number) for number in numbers], threading.excepthook
    interval = sys.getswitchinterval()
    yield
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert threading.excepthook is hook
    sys.setswitchinterval(interval)
    gc.unfreeze()


class Watched(Service):
    """A service that lets a test wait for the states of its models and for statistics."""

    def __init__(self, *arguments):
        self.changed = threading.Condition()
        self.seen = []
        super().__init__(*arguments)

    def _make_line(self, file):
        line = super()._make_line(file)
        own = line.announcements
        own.stats = followed_by(own.stats, lambda: self._see("stats"))
        own.state = followed_by(own.state, self._see)
        own.model = followed_by(own.model, lambda _, state: self._see((state.state, state.versions)))
        return line

    def wait_seen(self, *wanted):
        with self.changed:
            assert self.changed.wait_for(lambda: set(wanted) <= set(self.seen), WAIT_S), self.seen

    def _see(self, what):
        with self.changed:
            self.seen.append(what)
            self.changed.notify_all()


def followed_by(call, other):
    """Return a function that makes one call, then the other."""

    def both(*arguments):
        call(*arguments)
        other(*arguments)

    return both


@contextmanager
def beside(steps):
    """Run steps on a thread while the service has the main thread; a step that fails ends the service."""
    failures = []

    def run():
        try:
            steps()
        except BaseException as failure:  # noqa: BLE001 - told by the main thread
            failures.append(failure)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(WAIT_S)
    if failures:
        raise failures[0]


def kill(number):
    os.kill(os.getpid(), number)


def test_it_ends_when_every_source_has(site):
    report = site.folder / "report.json"
    service = Watched(site.load(ENDLESS.replace("loop = true\nfps = 200\n", "")), report)
    assert service.run() == ExitCode.OK
    assert [result["seq"] for result in site.results()] == [0, 1]
    assert json.loads(report.read_text())["sinks"]["lines"]["sent"] == 2
    states = [seen for seen in service.seen if isinstance(seen, str)]
    assert states == ["init", "ready", "draining", "stats"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_ends_it_with_every_frame_answered(site, number):
    service = Watched(site.load(ENDLESS), site.folder / "report.json")

    def steps():
        service.wait_seen("ready")
        kill(number)

    with beside(steps):
        assert service.run() == ExitCode.OK
    link = json.loads((site.folder / "report.json").read_text())["sources"]["s"]["models"]["mean"]
    assert (link["admitted"], link["dropped"]) == (link["published"], {})
    assert len(site.results()) == link["published"]


def wait_until(is_so, timeout_s=20.0):
    """Ask again and again: what is waited for is written by another thread, which tells nobody."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_statistics_come_at_their_interval_and_hup_reloads(site):
    service = Watched(site.load(ENDLESS + "[service]\nstats_s = 0.01\n"))

    def steps():
        service.wait_seen("ready", "stats")
        site.add("mean", store.mean_model(offset=1000), version=2)
        kill(signal.SIGHUP)
        service.wait_seen(("READY", (2,)))
        site.add("mean", b"no engine", version=3)
        kill(signal.SIGHUP)
        service.wait_seen(("READY", (2,)), ("LOADING", (2,)))
        wait_until(lambda: '"version":2,' in site.lines.read_text())
        kill(signal.SIGTERM)

    with beside(steps):
        assert service.run() == ExitCode.OK
    assert {result["version"] for result in site.results()} == {1, 2}


def test_models_are_changed_and_the_front_is_told_the_truth(site):
    service = Watched(site.load(ENDLESS))

    def steps():
        service.wait_seen("ready")
        assert service.is_ready()
        assert service._line.index() == [{"name": "mean", "version": "1", "state": "READY", "reason": ""}]
        service._line.unload("mean")
        assert not service.is_ready()
        assert service._line.index() == [
            {"name": "mean", "version": "", "state": "UNAVAILABLE", "reason": "unloaded"}
        ]
        service._line.load("mean")
        assert service.is_ready()
        with pytest.raises(ModelError, match="Model 'cat' is in no source of"):
            service._line.load("cat")
        with pytest.raises(ModelError, match="Model 'cat' is not loaded"):
            service._line.unload("cat")
        assert service.report()["models"]["mean"]["state"] == "READY"
        kill(signal.SIGTERM)

    with beside(steps):
        assert service.run() == ExitCode.OK
    assert not service.is_ready()


def test_overrides_are_read_again_when_a_model_is_loaded(site):
    service = Watched(site.load(ENDLESS))

    def steps():
        service.wait_seen("ready")
        site.write(ENDLESS + "[models.mean.engine]\nlanes = 3\n")
        service._line.load("mean")
        kill(signal.SIGTERM)

    with beside(steps):
        assert service.run() == ExitCode.OK
    assert LiveCount.snapshot() == {}


def test_start_that_fails_leaves_nothing_open(site):
    site.add("mean", b"no engine", version=2)
    service = Watched(site.load(ENDLESS + "[http]\nport = 0\n"))
    with pytest.raises(ModelError, match="not a usable ONNX file"):
        service.run()
    assert service.seen == ["init", ("LOADING", ()), ("UNAVAILABLE", ())]


def test_source_that_ends_with_an_error_decides_the_exit_code(site):
    text = '[sources.s]\nuri = "replay:noise?width=16384&height=16384&frames=100"\nmodels = ["mean"]\n'
    assert Service(site.load(text)).run() == ExitCode.CONFIG


def test_report_is_refused_before_the_work_where_it_cannot_be_written(site):
    service = Watched(site.load(ENDLESS), site.folder / "absent" / "report.json")
    with pytest.raises(ConfigError, match="there is no folder"):
        service.run()
    assert service.seen == []
    (site.folder / "taken").mkdir()
    service = Service(site.load(ENDLESS.replace("loop = true\nfps = 200\n", "")), site.folder / "taken")
    with pytest.raises(ConfigError, match="cannot be written: Is a directory"):
        service.run()
