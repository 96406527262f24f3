"""A source at work: how it ends, and what is left of one that hangs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from edgert.capture.options import SourceOptions
from edgert.device.host import HostDriver
from edgert.errors import ConfigError
from edgert.pipeline import running_source
from edgert.pipeline.link import Link
from edgert.pipeline.running_source import RunningSource
from edgert.publish.payload import ResultEncoder
from tests.fakes.source import FakeSource

WAIT_S = 10.0
PICTURE = np.zeros((2, 2, 3), np.uint8)


class Pipeline:
    """Drops every frame; `admitted` are their numbers."""

    def __init__(self):
        self.admitted = []

    def admit(self, frame):
        self.admitted.append(frame.seq)
        frame.slot.commit(claims=0)

    def make_room(self, source):
        return False


@pytest.fixture
def start(monkeypatch):
    """Return a function that starts a source with a script; it is closed in the end."""
    started = []

    def start(source):
        monkeypatch.setattr(running_source, "open_source", lambda *_, **__: source)
        states = []
        running = RunningSource(
            "door",
            SourceOptions(uri="replay:noise"),
            [Link("door", "m", priority=0, keeps_newest_only=False, max_age_ns=0)],
            Pipeline(),
            HostDriver().allocate,
            ResultEncoder("here", "boot"),
            Path(),
            lambda state, reason: states.append(state),
        )
        running.states = states
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        running.close()


def wait_ended(running):
    running._capture._thread.join(WAIT_S)
    assert running.state == "ended"


def test_frames_come_once_it_is_resumed(start):
    running = start(FakeSource([PICTURE] * 3))
    running.resume()
    wait_ended(running)
    report = running.report()
    assert (report.state, report.frames, report.refused, report.lost) == ("ended", 3, {}, {})
    assert running.failure is None
    assert running.states == ["online", "ended"]


def test_what_is_lost_before_it_arrives_is_in_the_report(start):
    source = FakeSource([PICTURE])
    source.counts = {"gap": 4}
    running = start(source)
    running.resume()
    wait_ended(running)
    assert running.report().lost == {"gap": 4}


def test_error_that_ends_it_is_kept(start):
    failure = ConfigError("too large")
    running = start(FakeSource([PICTURE, failure]))
    running.resume()
    wait_ended(running)
    assert running.failure is failure


def test_copies_that_are_being_counted_do_not_disturb_the_report(start):
    running = start(FakeSource([]))
    running._copies.copies.add("host_to_host")  # a capture thread is between this and the bytes
    assert running.report().copies["host_to_host"].bytes == 0


def test_source_that_hangs_is_left_behind_with_a_warning(start, monkeypatch, caplog):
    monkeypatch.setattr(running_source, "STOP_TIMEOUT_S", 0.01)
    hangs, may_return = threading.Event(), threading.Event()

    def hang():
        hangs.set()
        may_return.wait(WAIT_S)

    running = start(FakeSource([hang]))
    running.resume()
    try:
        assert hangs.wait(WAIT_S)
        running.close()
        assert [record.levelname for record in caplog.records if "left behind" in record.message] == [
            "WARNING"
        ]
    finally:
        may_return.set()
        running._capture._thread.join(WAIT_S)
