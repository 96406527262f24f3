"""What systemd is told, look by look, of a line that only says how it is. Time is the test's."""

from __future__ import annotations

import itertools
import threading

import pytest

from edgert.pipeline.overview import Overview
from edgert.pipeline.progress import Pulse
from edgert.service.notify import Notifier
from edgert.service.supervisor import (
    EXTEND_EVERY_S,
    EXTENSION_S,
    FIRST_TRY_S,
    STATUS_S,
    Supervisor,
)
from tests.fakes.clock import FakeClock
from tests.fakes.manager import Manager

S = 1_000_000_000
WELL = "1 of 1 sources online, 1 of 1 models ready, 0.0 results/s, 0 frames dropped"


class Line:
    """A line that works as long as nothing is in `stuck`."""

    hang_s = 4.0

    def __init__(self):
        self.stuck = set()
        self.is_tried = True
        self.load = ("", 0)
        self.published = 0
        self._turns = itertools.count()

    def pulses(self):
        for part in ("lane 1 of model coco", "source door"):
            turns = 0 if part in self.stuck else next(self._turns)
            yield Pulse(part, turns, is_idle=False, limit_s=self.hang_s)

    def loading(self):
        what, loads = self.load
        return Pulse(f"loading {what}", loads, is_idle=not what, limit_s=10.0)

    def overview(self):
        return Overview({"door": "online"}, {"coco": "READY"}, self.published, 0, 0)

    def are_sources_tried(self):
        return self.is_tried


class Rig:
    """A supervisor whose looks the test takes, one a second."""

    def __init__(self, manager, watchdog_s):
        self.clock = FakeClock(10**15)
        self.manager = manager
        self.is_main_alive = True
        notifier = Notifier(manager.address, watchdog_s)
        self.supervisor = Supervisor(notifier, self._tick, self.clock)
        self.line = Line()
        self.close = notifier.close

    def looks(self, count=1, step_s=1.0):
        """Return the messages of so many looks."""
        before = len(self.manager.drain())
        for _ in range(count):
            self.clock.advance(int(step_s * S))
            self.supervisor.look()
            self.manager.drain()  # as its queue is short
        return self.manager.drain()[before:]

    def serve(self):
        self.supervisor.opening(self.line)
        self.supervisor.opened()
        return self.looks()

    def _tick(self):
        if self.is_main_alive:
            self.supervisor.main_turned()


@pytest.fixture
def manager(tmp_path):
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def rig(manager):
    rig = Rig(manager, watchdog_s=2.0)
    yield rig
    rig.close()


def having(messages, key):
    return [message[key] for message in messages if key in message]


# Start


def test_ready_is_said_once_with_how_it_is(rig):
    [message] = rig.serve()
    assert (message["READY"], message["STATUS"]) == ("1", WELL)
    assert having(rig.looks(20), "READY") == []


def test_ready_waits_for_the_first_attempt_of_each_source(rig):
    rig.line.is_tried = False
    assert having(rig.serve() + rig.looks(5), "READY") == []
    rig.line.is_tried = True
    assert having(rig.looks(), "READY") == ["1"]


def test_ready_does_not_wait_for_ever(rig):
    rig.line.is_tried = False
    assert having(rig.serve() + rig.looks(int(FIRST_TRY_S) - 2), "READY") == []
    assert having(rig.looks(2), "READY") == ["1"]


def test_ready_is_said_again_if_the_manager_did_not_get_it(rig, monkeypatch):
    with monkeypatch.context() as away:
        away.setattr(Notifier, "send", lambda *_: False)
        assert rig.serve() == []
    assert having(rig.looks(3), "READY") == ["1"]


def test_time_is_asked_for_as_long_as_loading_goes_on(rig):
    rig.supervisor.opening(rig.line)
    rig.line.load = ("model coco version 3", 1)
    first = rig.looks(9)
    rig.line.load = ("model cats version 1", 3)
    second = rig.looks(9)
    extensions = having(first + second, "EXTEND_TIMEOUT_USEC")
    assert set(extensions) == {str(int(EXTENSION_S * 1e6))}
    assert len(extensions) == 1 + int(17 // EXTEND_EVERY_S)
    assert having(first, "STATUS")[-1] == "starting; loading model coco version 3"
    assert having(second, "STATUS")[-1] == "starting; loading model cats version 1"


def test_a_load_that_hangs_gets_no_more_time_and_is_named(rig, caplog):
    rig.supervisor.opening(rig.line)
    rig.line.load = ("model coco version 3", 1)
    rig.looks(12)
    late = rig.looks(60)
    assert having(late, "EXTEND_TIMEOUT_USEC") == []
    assert having(late, "WATCHDOG") == []
    assert "loading model coco version 3 hangs for 7" in having(late, "STATUS")[-1]
    assert "loading model coco version 3 hangs for 11 s" in caplog.text


# Serving


def test_status_is_refreshed_with_rates_and_at_once_after_a_change(rig):
    rig.serve()
    rig.line.published = 50
    assert having(rig.looks(), "STATUS") == []
    [later] = having(rig.looks(int(STATUS_S) - 1), "STATUS")
    assert "10.0 results/s" in later
    rig.supervisor.changed()
    assert len(having(rig.looks(step_s=0.25), "STATUS")) == 1


def test_the_watchdog_hears_of_it_every_half_of_its_time(rig):
    rig.serve()
    assert len(having(rig.looks(60, step_s=0.5), "WATCHDOG")) == 30


def test_without_a_watchdog_nothing_is_said_to_it(manager):
    rig = Rig(manager, watchdog_s=None)
    assert having(rig.serve() + rig.looks(10), "WATCHDOG") == []
    rig.close()


@pytest.mark.parametrize("part", ["lane 1 of model coco", "source door"])
def test_a_part_that_hangs_ends_the_signs_of_life_and_is_named_once_in_the_log(rig, caplog, part):
    rig.serve()
    rig.line.stuck.add(part)
    assert len(having(rig.looks(4), "WATCHDOG")) == 4
    rig.looks(2)
    hung = rig.looks(20)
    assert having(hung, "WATCHDOG") == []
    assert having(hung, "STATUS")[-1].startswith(f"{part} hangs for ")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"{part} hangs for 5 s, since " in caplog.text
    assert "MainThread at edgert/service/where.py" in caplog.text


def test_a_part_that_goes_on_is_said_to(rig, caplog):
    rig.serve()
    rig.line.stuck.add("source door")
    rig.looks(10)
    rig.line.stuck.clear()
    assert len(having(rig.looks(4), "WATCHDOG")) == 4
    assert caplog.records[-1].getMessage() == "source door goes on"
    assert having(rig.manager.messages, "STATUS")[-1] == WELL


def test_the_main_thread_is_watched_too(rig):
    rig.serve()
    rig.is_main_alive = False
    rig.looks(6)
    hung = rig.looks(10)
    assert having(hung, "WATCHDOG") == []
    assert "the main thread hangs for" in having(hung, "STATUS")[-1]


# Reload and stop


def test_a_reload_begins_and_ends_for_systemd(rig):
    rig.serve()
    rig.supervisor.reloading()
    begun = rig.manager.next()
    assert (begun["RELOADING"], begun["MONOTONIC_USEC"]) == ("1", str(rig.clock.now_ns // 1000))
    during = rig.looks(3)
    assert having(during, "READY") == []
    assert having(during, "STATUS")[-1] == f"reloading; {WELL}"
    assert len(having(during, "WATCHDOG")) == 3
    assert having(during, "EXTEND_TIMEOUT_USEC") != []
    rig.supervisor.reloaded("not reloaded, the old pipeline goes on: door.toml: no such file")
    [ended] = [message for message in rig.looks() if "READY" in message]
    assert ended["STATUS"] == f"{WELL}; not reloaded, the old pipeline goes on: door.toml: no such file"
    rig.supervisor.reloading()
    rig.supervisor.reloaded("")
    assert having(rig.looks(), "STATUS") == [WELL]


def test_a_reload_that_hangs_gets_no_more_time_but_does_not_end_what_serves(rig):
    rig.serve()
    rig.supervisor.reloading()
    rig.line.load = ("model coco version 4", 1)
    rig.looks(12)
    late = rig.looks(30)
    assert having(late, "EXTEND_TIMEOUT_USEC") == []
    assert len(having(late, "WATCHDOG")) == 30
    assert "loading model coco version 4 hangs for" in having(late, "STATUS")[-1]


def test_a_new_line_is_not_held_against_the_old_one(rig):
    rig.serve()
    rig.supervisor.reloading()
    rig.line.stuck.add("source door")
    rig.looks(3)
    rig.supervisor.closing(30.0)
    rig.is_main_alive = False  # it drains
    closing = rig.looks(20)
    assert len(having(closing, "WATCHDOG")) == 20
    rig.is_main_alive = True
    rig.line = Line()
    assert having(rig.serve() + rig.looks(20), "READY") == ["1"]


def test_a_stop_says_how_long_it_may_take_and_the_watchdog_waits_for_so_long(rig):
    rig.serve()
    rig.supervisor.stopping(30.0)
    message = rig.manager.wait_for("STOPPING")
    assert message == {"STOPPING": "1", "STATUS": "stopping", "EXTEND_TIMEOUT_USEC": "30000000"}
    rig.is_main_alive = False
    assert len(having(rig.looks(33), "WATCHDOG")) == 33
    rig.looks(2)
    assert having(rig.looks(5), "WATCHDOG") == []
    assert having(rig.manager.messages, "READY") == ["1"]


# The thread


def test_the_thread_looks_by_itself_and_ends(manager):
    turns = threading.Semaphore(0)
    supervisor = Supervisor(Notifier(manager.address, 0.4), turns.release)
    supervisor.start()
    supervisor.opening(Line())
    supervisor.opened()
    manager.wait_for("READY")
    manager.wait_for("WATCHDOG")
    assert turns.acquire(timeout=10.0)
    supervisor.stop()


def test_without_a_manager_there_is_no_thread():
    before = threading.active_count()
    supervisor = Supervisor(Notifier(), lambda: None)
    supervisor.start()
    assert threading.active_count() == before
    supervisor.opening(Line())
    supervisor.stopping(1.0)
    supervisor.stop()
