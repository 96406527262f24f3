"""What the watchdog and READY read of a capture thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgert.capture.capture import Capture
from edgert.capture.options import SourceOptions
from edgert.errors import SourceError
from tests.fakes.source import FakeSource

PICTURE = np.full((4, 6, 3), 7, np.uint8)
WAIT_S = 10.0


@pytest.fixture
def start(ring):
    """Return a function that starts a Capture with a thread; it is stopped in the end."""
    started = []

    def start(source, uri="replay:noise", **options):
        changed = threading.Event()
        capture = Capture(
            "cam",
            source,
            ring,
            SourceOptions(uri=uri, **options),
            lambda frame: ring.commit(frame.slot, 0),
            on_state=lambda *_: changed.set(),
        )
        started.append(capture)
        capture.start()
        assert changed.wait(WAIT_S)
        return capture

    yield start
    for capture in started:
        capture.stop()


def test_each_thing_that_it_does_is_a_turn(make_source):
    capture = make_source([PICTURE, None, PICTURE])
    capture.run()
    assert capture.turns == 4  # to open it, and three reads


@pytest.fixture
def make_source(ring, clock):
    def make(script, **options):
        source = FakeSource(script, clock)
        return Capture(
            "cam",
            source,
            ring,
            SourceOptions(uri="replay:noise", **options),
            lambda frame: ring.commit(frame.slot, 0),
            clock=clock,
        )

    return make


def test_a_read_that_does_not_return_is_no_rest(start):
    gate = threading.Event()
    entered = threading.Event()

    def hang():
        entered.set()
        assert gate.wait(WAIT_S)

    capture = start(FakeSource([PICTURE, hang]))
    assert entered.wait(WAIT_S)
    assert not capture.is_idle
    turns = capture.turns
    gate.set()
    capture._thread.join(WAIT_S)
    assert capture.turns == turns + 1
    assert capture.is_idle  # it has ended


def test_the_pause_after_a_failure_is_rest_and_the_attempt_counts(start):
    failing = FakeSource([], openings=[SourceError("no such device")])
    capture = start(failing, uri="v4l2:/dev/video0", retry_min_s=30, retry_max_s=30)
    assert capture.is_tried
    for _ in range(1000):
        if capture.is_idle:
            break
        threading.Event().wait(0.01)
    assert capture.is_idle


def test_a_camera_is_tried_with_its_first_frame_a_socket_when_it_is_open(ring, clock):
    def opened(uri):
        capture = Capture(
            "cam", FakeSource([None], clock), ring, SourceOptions(uri=uri), lambda _: None, clock=clock
        )
        before = capture.is_tried
        capture._turn()
        return before, capture.is_tried

    assert opened("v4l2:/dev/video0") == (False, False)
    assert opened("sub+bind:ipc:///tmp/none") == (False, True)
    assert opened("replay:noise") == (False, True)
