"""Run by test_gstreamer.py with a Python that has GStreamer's binding."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edgert.capture.gstreamer import GStreamerSource, with_appsink
from edgert.device.host import HostDriver
from edgert.errors import SourceError
from edgert.frames.slots import SlotRing
from edgert.stats import CopyCounts
from tests.contract.test_source_contract import HEIGHT, LEVELS, WIDTH, Case, SourceContract

WAIT_S = 10.0
RED_BGR = [0, 0, 255]


@pytest.fixture
def slot():
    ring = SlotRing(1, 2**20, HostDriver().allocate)
    slot = ring.acquire_write()
    yield slot
    ring.abandon(slot)
    ring.close()


@pytest.fixture
def play():
    opened = []

    def open_pipeline(text, **options):
        source = GStreamerSource(text, **options)
        opened.append(source)
        source.open()
        return source

    yield open_pipeline
    for source in opened:
        source.close()


class TestGStreamerSource(SourceContract):
    @pytest.fixture
    def case(self, tmp_path):
        pictures = [np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in LEVELS]
        (tmp_path / "raw").write_bytes(np.stack(pictures).tobytes())
        size = f"blocksize={WIDTH * HEIGHT * 3}"
        caps = f"video/x-raw,format=BGR,width={WIDTH},height={HEIGHT},framerate=25/1"
        source = GStreamerSource(f"filesrc location={tmp_path}/raw {size} ! {caps} ! appsink sync=false")
        yield Case(source, end=SourceError)
        source.close()


def read_slices(play, text, slot):
    """Read as a capture thread does, until a frame comes or the time is up."""
    source = play(text)
    ends_s = time.monotonic() + WAIT_S
    while time.monotonic() < ends_s and source.read(slot, 0.05) is None:
        pass


@pytest.mark.parametrize("width", [64, 33, 1])
def test_pixels_arrive_as_bgr_without_padding(play, slot, width):
    copies = CopyCounts()
    source = play(
        with_appsink(f"videotestsrc pattern=red num-buffers=3 ! video/x-raw,width={width},height=5"),
        copies=copies,
    )
    captured = source.read(slot, WAIT_S)
    assert (captured.format, captured.height, captured.width) == ("bgr8", 5, width)
    assert np.abs(slot.view((5, width, 3)).astype(int) - RED_BGR).max() <= 2
    assert copies.copies.snapshot() == {"host_to_host": 2}


@pytest.mark.parametrize(
    ("caps", "form", "shape"),
    [("RGB", "rgb8", (22, 30, 3)), ("GRAY8", "gray8", (22, 30)), ("NV12", "nv12", (33, 30))],
)
def test_other_formats_are_taken_as_they_are(play, slot, caps, form, shape):
    source = play(f"videotestsrc pattern=white ! video/x-raw,format={caps},width=30,height=22 ! appsink")
    captured = source.read(slot, WAIT_S)
    assert (captured.format, captured.height, captured.width) == (form, 22, 30)
    assert slot.view(shape)[:22].min() >= 235


def test_format_that_no_slot_holds_is_a_source_error(play, slot):
    source = play("videotestsrc ! video/x-raw,format=YUY2 ! appsink")
    with pytest.raises(SourceError, match="The appsink delivers YUY2; expected BGR"):
        source.read(slot, WAIT_S)


def test_pipeline_that_ends_is_a_source_error_and_can_be_opened_again(play, slot):
    source = play("videotestsrc num-buffers=2 ! videoconvert ! video/x-raw,format=BGR ! appsink")
    for _ in range(2):
        assert source.read(slot, WAIT_S)
        assert source.read(None, WAIT_S)
        with pytest.raises(SourceError, match="The pipeline has ended"):
            source.read(slot, WAIT_S)
        source.close()
        source.open()


def test_waiting_ends_with_the_timeout(play, slot):
    source = play("appsrc is-live=true ! appsink")
    began = time.monotonic()
    assert source.read(slot, 0.05) is None
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nosuchelement ! appsink", 'no element "nosuchelement"'),
        ("videotestsrc ! fakesink", "does not end in an appsink"),
        ("filesrc location=/nowhere ! decodebin ! appsink", "Resource not found|No such file"),
    ],
)
def test_pipeline_that_cannot_play_says_why(play, slot, text, message):
    with pytest.raises(SourceError, match=message):
        read_slices(play, text, slot)


def test_camera_that_refuses_is_a_source_error_without_its_password(play, slot):
    text = "rtspsrc location=rtsp://user:secret@127.0.0.1:1/x user-pw=secret ! decodebin ! appsink"
    with pytest.raises(SourceError, match=r"Could not open resource|Failed to connect") as failure:
        read_slices(play, text, slot)
    assert "secret" not in str(failure.value)
