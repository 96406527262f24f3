"""A real camera's faults: it goes, comes back, and freezes. The camera is GStreamer's RTSP server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from edgert.capture.capture import Capture
from edgert.capture.factory import open_source
from edgert.capture.options import SourceOptions
from edgert.device.host import HostDriver
from edgert.frames.slots import SlotRing
from edgert.stats import CopyCounts
from tests.requirements_of import need_gstreamer

pytestmark = pytest.mark.system

WAIT_S = 30.0  # a test that waits so long has failed
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-ugly"
)


class RtspServer:
    """The server as a child process on one port."""

    def __init__(self, python):
        self._python = python
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.uri = f"rtsp://user:secret@127.0.0.1:{self._port}/cam"
        self.process = None

    def start(self):
        script = Path(__file__).with_name("rtsp_server.py")
        environment = {"PATH": os.environ["PATH"], "GST_DEBUG": "0", "HOME": os.environ.get("HOME", "/")}
        self.process = subprocess.Popen(
            [self._python, script, str(self._port)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout.readline() == "ready\n"

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


class Watch:
    """Remembers a capture's frames and states, and waits for them."""

    def __init__(self, ring):
        self._ring = ring
        self._changed = threading.Condition()
        self.states = []
        self.frames = 0
        self.shape = None

    def deliver(self, frame):
        shape = frame.image().shape
        self._ring.commit(frame.slot, 0)
        with self._changed:
            self.frames += 1
            self.shape = shape
            self._changed.notify_all()

    def on_state(self, state, _reason):
        with self._changed:
            self.states.append(state)
            self._changed.notify_all()

    def wait_frames(self, count):
        with self._changed:
            wanted = self.frames + count
            assert self._changed.wait_for(lambda: self.frames >= wanted, WAIT_S), self.states

    def wait_state(self, state):
        with self._changed:
            assert self._changed.wait_for(lambda: self.states[-1:] == [state], WAIT_S), self.states


@pytest.fixture
def server():
    python = need_gstreamer(
        "x264enc", "rtph264pay", packages=PACKAGES, typelibs=("Gst-1.0", "GstRtspServer-1.0")
    )
    server = RtspServer(python)
    yield server
    server.stop()


@pytest.fixture
def capture_of():
    """Return a function that starts a capture and returns it with its watch."""
    running = []

    def start(uri, **options):
        ring = SlotRing(4, 2**22, HostDriver().allocate)
        watch, copies = Watch(ring), CopyCounts()
        chosen = SourceOptions(uri=uri, retry_min_s=0.1, retry_max_s=0.3, **options)
        source = open_source("cam", chosen, encode=lambda _: b"", folder=Path(), copies=copies)
        capture = Capture("cam", source, ring, chosen, watch.deliver, on_state=watch.on_state)
        running.append((capture, ring))
        capture.start()
        return capture, watch, copies

    yield start
    for capture, ring in running:
        capture.stop()
        ring.close()


def test_frames_are_decoded_in_place_and_numbered(server, capture_of):
    server.start()
    capture, watch, copies = capture_of(server.uri)
    watch.wait_frames(20)
    assert watch.shape == (240, 320, 3)
    assert (watch.states, copies.copies.total()) == (["online"], 0)
    assert capture.stats.refused.total() == 0


def test_camera_that_goes_is_offline_and_online_when_it_returns(server, capture_of):
    server.start()
    capture, watch, _ = capture_of(server.uri)
    watch.wait_frames(5)
    server.stop()
    watch.wait_state("offline")
    assert "secret" not in capture.stats.reason
    server.start()
    watch.wait_state("online")
    watch.wait_frames(5)
    assert capture.stats.reconnects == 1


def test_camera_absent_at_start_is_found_later(server, capture_of):
    capture, watch, _ = capture_of(server.uri)
    watch.wait_state("offline")
    assert "cannot be opened" in capture.stats.reason
    server.start()
    watch.wait_frames(5)
    assert watch.states == ["offline", "online"]


def test_camera_that_freezes_is_stalled_and_recovers(server, capture_of):
    server.start()
    capture, watch, _ = capture_of(server.uri, stall_s=1.0, open_timeout_s=4.0)
    watch.wait_frames(5)
    os.kill(server.process.pid, signal.SIGSTOP)
    watch.wait_state("stalled")
    os.kill(server.process.pid, signal.SIGCONT)
    watch.wait_state("online")
    watch.wait_frames(5)
    assert capture.stats.reconnects == 1


def test_stop_does_not_wait_for_a_frozen_camera(server, capture_of):
    server.start()
    capture, watch, _ = capture_of(server.uri, stall_s=3.0)
    watch.wait_frames(5)
    os.kill(server.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    capture.stop()
    assert time.monotonic() - began < 1.0
    os.kill(server.process.pid, signal.SIGCONT)
