from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edgert.capture.gstreamer import GStreamerSource, csi_pipeline, with_appsink
from edgert.errors import ClosedError, FrameError, SourceError
from edgert.stats import CopyCounts


def test_csi_pipeline_asks_the_sensor_and_ends_in_bgr():
    assert csi_pipeline(1, 1280, 720, 29.97) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=29970/1000 "
        "! nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR "
        "! appsink drop=true max-buffers=1 sync=false"
    )


def test_csi_pipeline_leaves_open_what_nobody_asked_for():
    assert "video/x-raw(memory:NVMM) !" in csi_pipeline(0, 0, 0, 0.0)


def test_appsink_is_added_only_where_there_is_none():
    assert with_appsink("videotestsrc ! appsink name=x") == "videotestsrc ! appsink name=x"
    assert with_appsink("videotestsrc").startswith(
        "videotestsrc ! videoconvert ! video/x-raw,format=BGR ! appsink "
    )


def test_missing_binding_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(SourceError, match=r"Debian's packages are python3-gi .*--system-site-packages"):
        GStreamerSource("videotestsrc ! appsink").open()


def test_reading_a_closed_pipeline_is_refused(slot):
    source = GStreamerSource("videotestsrc ! appsink")
    source.close()
    with pytest.raises(ClosedError):
        source.read(slot, 0.0)


class Buffer:
    def __init__(self, data):
        self._data = data

    def get_size(self):
        return len(self._data)

    def extract_dup(self, offset, size):
        return self._data[offset : offset + size]


@pytest.mark.parametrize(
    ("pixel_format", "shape", "padded"),
    [("bgr8", (2, 3, 3), 12), ("gray8", (3, 5), 8), ("nv12", (6, 6), 8), ("bgr8", (2, 4, 3), 12)],
)
def test_padded_rows_are_copied_without_their_padding(slot, pixel_format, shape, padded):
    copies = CopyCounts()
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    rows = np.zeros((shape[0], padded), np.uint8)
    rows[:, : pixels[0].size] = pixels.reshape(shape[0], -1)
    height = shape[0] * 2 // 3 if pixel_format == "nv12" else shape[0]
    source = GStreamerSource("", copies=copies)
    source._copy(Buffer(rows.tobytes()), slot, pixel_format, height, shape[1])
    assert np.array_equal(slot.view(shape), pixels)
    assert copies.copies["host_to_host"] == 2


def test_buffer_smaller_than_its_caps_say_is_refused(slot):
    with pytest.raises(FrameError, match="A buffer of 5 bytes is too small for bgr8 4x2"):
        GStreamerSource("")._copy(Buffer(b"12345"), slot, "bgr8", 2, 4)


def test_format_that_no_slot_can_hold_is_refused(slot):
    structure = SimpleNamespace(get_string=lambda _: "I420", get_int=lambda _: (True, 4))
    caps = SimpleNamespace(get_structure=lambda _: structure)
    source = GStreamerSource("")
    source._pipeline = object()
    source._sink = SimpleNamespace(try_pull_sample=lambda _: SimpleNamespace(get_caps=lambda: caps))
    with pytest.raises(SourceError, match="The appsink delivers I420; expected BGR, RGB, GRAY8, NV12"):
        source.read(slot, 0.0)
