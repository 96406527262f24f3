"""SIGHUP in this process: what is followed, what is refused, what is left behind."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.service import Service
from edgert.service.notify import Notifier
from edgert.stats import proportional_set_bytes
from tests.fakes import store
from tests.fakes.log_watch import LogWatch
from tests.fakes.manager import Manager
from tests.fakes.store import Site, noise

WAIT_S = 20.0
SOURCE = f'uri = "{noise(2)}"\nloop = true\nfps = 200\nmodels = ["mean"]\n'
DOOR = f"[sources.door]\n{SOURCE}"
YARD = f"[sources.yard]\n{SOURCE}"


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model())
    return site


class Running:
    """A service on the main thread, told and watched from another one."""

    def __init__(self, site, text):
        self.site = site
        self.failures = []
        self.notifier = Notifier(str(site.folder / "notify"))
        self.service = Service(site.load(text), site.folder / "report.json", self.notifier)

    @property
    def line(self):
        return self.service._line

    def begin(self, steps):
        """Run the service while another thread takes the steps, after READY; returns the exit code."""
        with Manager(str(self.site.folder / "notify")) as self.manager, LogWatch() as self.log:
            thread = threading.Thread(target=self._take, args=(steps,))
            thread.start()
            code = self.service.run()
            thread.join(WAIT_S)
            self.notifier.close()
            self.manager.drain()
        if self.failures:
            raise self.failures[0]
        return code

    def reload(self, text=None):
        """Send SIGHUP, after the file was written anew; returns the message that ends the reload."""
        if text is not None:
            self.site.write(text)
        os.kill(os.getpid(), signal.SIGHUP)
        self.manager.wait_for("RELOADING", "1")
        return self.manager.wait_for("READY", "1")

    def results(self):
        """Return the results whose lines are complete."""
        whole, _, _ = self.site.lines.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def wait_result(self, wanted):
        deadline = time.monotonic() + WAIT_S
        while not any(map(wanted, self.results())):
            assert time.monotonic() < deadline
            self.manager.drain()  # as its queue is short
            time.sleep(0.01)

    def _take(self, steps):
        try:
            self.manager.wait_for("READY", "1")
            steps()
        except BaseException as failure:  # noqa: BLE001 - told by the main thread
            self.failures.append(failure)
        os.kill(os.getpid(), signal.SIGTERM)


def test_it_is_told_how_the_service_is_from_start_to_stop(site):
    running = Running(site, DOOR)
    assert running.begin(lambda: None) == ExitCode.OK
    manager = running.manager
    assert manager.keys("READY", "RELOADING", "STOPPING") == ["READY", "STOPPING"]
    ready = next(message for message in manager.messages if "READY" in message)
    assert ready["STATUS"].startswith("1 of 1 sources online, 1 of 1 models ready, ")


def test_a_reload_of_models_keeps_everything_else(site):
    running = Running(site, DOOR + YARD)

    def steps():
        line, boot = running.line, running.line.assembly.boot
        site.add("mean", store.mean_model(offset=1000), version=2)
        assert "reload" not in running.reload()["STATUS"]
        running.wait_result(lambda result: result["version"] == 2)
        assert running.line is line
        assert {result["boot"] for result in running.results()} == {boot}
        assert running.line.report()["sources"]["door"]["refused"] == {}

    assert running.begin(steps) == ExitCode.OK
    numbers = [result["seq"] for result in running.results() if result["source"] == "door"]
    report = json.loads((site.folder / "report.json").read_text())
    dropped = sum(report["sources"]["door"]["models"]["mean"]["dropped"].values())
    assert (numbers, dropped) == (list(range(len(numbers))), 0)


def test_overrides_of_models_are_followed_without_a_new_line(site):
    running = Running(site, DOOR)

    def steps():
        line = running.line
        running.reload(DOOR + "[models.mean.engine]\nlanes = 3\n")
        assert running.line is line
        assert running.line.report()["models"]["mean"]["versions"][0]["lanes"] == 3
        running.reload(DOOR + "[models.mean.engine]\nlanes = 2\n")
        assert running.line.report()["models"]["mean"]["versions"][0]["lanes"] == 2

    assert running.begin(steps) == ExitCode.OK


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sources.door\n", "not valid TOML"),
        (DOOR + "[service]\ndrian_s = 1\n", "did you mean 'drain_s'"),
        (DOOR.replace('["mean"]', '["absent"]'), "absent"),
        (DOOR.replace(noise(2), "file:absent.mp4"), "there is no file"),
        (DOOR + '[sinks.lines]\ntype = "lines"\npath = "absent/lines.jsonl"\n', "there is no folder"),
        (DOOR + "[models.mena.engine]\nlanes = 2\n", "no source feeds a model of this name"),
    ],
)
def test_a_wrong_file_is_refused_and_the_old_one_goes_on(site, text, said):
    running = Running(site, DOOR)

    def steps():
        line = running.line
        status = running.reload(text)["STATUS"]
        assert "not reloaded, the old pipeline goes on: " in status
        assert said in status
        assert status.startswith("1 of 1 sources online")
        running.log.wait_for("not reloaded, the old pipeline goes on: ")
        assert running.line is line
        last = len(running.results())
        running.wait_result(lambda result: result["seq"] > last + 5)
        assert "not reloaded" not in running.reload(DOOR)["STATUS"]

    assert running.begin(steps) == ExitCode.OK
    assert {result["boot"] for result in running.results()} == {running.line.assembly.boot}


def test_an_engine_that_does_not_load_is_found_before_the_old_line_ends(site):
    site.add("broken", b"no engine")
    running = Running(site, DOOR)

    def steps():
        line = running.line
        status = running.reload(DOOR + YARD.replace('"mean"', '"broken"'))["STATUS"]
        assert "not a usable ONNX file" in status
        assert running.line is line

    assert running.begin(steps) == ExitCode.OK


def test_other_sources_get_a_line_of_their_own_in_the_same_process(site):
    running = Running(site, DOOR)

    def steps():
        line, boot = running.line, running.line.assembly.boot
        running.reload(YARD + "[service]\nstats_s = 0.05\n")
        running.log.wait_for("reloading: sources, service of ")
        running.log.wait_for("reloaded: no frame was taken for ")
        assert running.line is not line
        running.wait_result(lambda result: result["source"] == "yard" and result["boot"] != boot)
        assert running.line.report()["sources"].keys() == {"yard"}

    assert running.begin(steps) == ExitCode.OK
    assert running.manager.keys("READY", "RELOADING", "STOPPING") == [
        *("READY", "RELOADING", "READY", "STOPPING")
    ]
    keys = [(result["boot"], result["source"], result["seq"]) for result in running.results()]
    assert len(keys) == len(set(keys))


def test_a_new_line_that_cannot_be_opened_gives_way_to_the_old_file(site):
    running = Running(site, DOOR)

    def steps():
        status = running.reload(DOOR + '[http]\nhost = "192.0.2.1"\nport = 8000\n')["STATUS"]
        assert "the new pipeline could not be started, so the old one is again: http: cannot listen" in status
        count = len(running.results())
        running.wait_result(lambda result: result["boot"] == running.line.assembly.boot)
        assert len(running.results()) >= count
        assert "could not be started" not in running.reload(YARD)["STATUS"]

    assert running.begin(steps) == ExitCode.OK


def test_if_the_old_file_cannot_be_opened_either_the_process_ends(site, monkeypatch):
    running = Running(site, DOOR)

    def steps():
        site.write(YARD)
        monkeypatch.setattr(
            "edgert.pipeline.assembly.open_sink",
            lambda *_: (_ for _ in ()).throw(ConfigError("no sink opens any more")),
        )
        os.kill(os.getpid(), signal.SIGHUP)
        running.log.wait_for("so the old one is again: no sink opens any more")

    with pytest.raises(ConfigError, match="no sink opens any more"):
        running.begin(steps)
    running.notifier.close()


def test_a_stop_during_a_new_start_is_a_stop(site):
    site.add("slow", store.slow_model(60))
    running = Running(site, DOOR)

    def steps():
        site.write(DOOR.replace('"mean"', '"slow"') + "[service]\ndrain_s = 20\n")
        os.kill(os.getpid(), signal.SIGHUP)
        running.log.wait_for("model mean is UNAVAILABLE")
        running.log.wait_for("model slow is LOADING")

    assert running.begin(steps) == ExitCode.OK
    assert running.manager.keys("READY", "STOPPING") == ["READY", "STOPPING"]


def test_one_more_reload_follows_those_asked_for_meanwhile(site):
    running = Running(site, DOOR)

    def steps():
        for _ in range(10):
            os.kill(os.getpid(), signal.SIGHUP)
        site.add("mean", store.mean_model(offset=1000), version=2)
        os.kill(os.getpid(), signal.SIGHUP)
        running.wait_result(lambda result: result["version"] == 2)

    assert running.begin(steps) == ExitCode.OK


@pytest.mark.parametrize("kind", ["models", "sources"])
def test_twenty_reloads_leave_nothing_behind(site, kind):
    http = "[http]\nport = 0\n"
    running = Running(site, DOOR + http)
    seen = []

    def steps():
        for turn in range(20):
            sources = DOOR if kind == "models" or turn % 2 else DOOR + YARD
            running.reload(sources + http)
            if turn in (3, 19):
                gc.collect()
                seen.append((threading.active_count(), open_files(), proportional_set_bytes()))

    assert running.begin(steps) == ExitCode.OK
    (threads, files, pss), (threads_later, files_later, pss_later) = seen
    assert threads_later <= threads
    assert files_later <= files
    assert pss_later - pss < 8 << 20


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))
