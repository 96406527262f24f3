from __future__ import annotations

import numpy as np
import pytest

from edgert.capture.video import (
    FFMPEG,
    GSTREAMER,
    V4L2,
    Video,
    device_settings,
    has_gstreamer,
    network_settings,
    opencv_features,
)
from edgert.errors import FrameError, SourceError
from edgert.stats import CopyCounts


@pytest.fixture
def copies():
    return CopyCounts()


@pytest.fixture
def video(make_clip, copies):
    video = Video(str(make_clip()), FFMPEG, (), copies)
    yield video
    video.close()


def test_opencv_decodes_into_the_slots_own_memory(video, slot, copies):
    for level in (0, 10, 20):
        assert video.grab()
        video.retrieve_into(slot)
        array = slot.view((48, 64, 3))
        assert array.ctypes.data == slot.buffer.array_u8.ctypes.data
        assert array.mean() == pytest.approx(level, abs=3)
    assert copies.copies.snapshot() == {}


def test_retrieve_returns_the_very_array_it_was_given(video):
    target = np.zeros((48, 64, 3), np.uint8)
    video.grab()
    assert video.retrieve(target) is target


def test_wrong_guess_of_the_size_costs_one_counted_copy(video, slot, copies):
    video.shape = (10, 10, 3)
    for _ in range(3):
        video.grab()
        video.retrieve_into(slot)
    assert video.shape == (48, 64, 3)
    assert slot.view(video.shape).mean() == pytest.approx(20, abs=3)
    assert copies.copies.snapshot() == {"host_to_host": 1}
    assert copies.bytes["host_to_host"] == 48 * 64 * 3


def test_unknown_size_costs_one_counted_copy(video, slot, copies):
    video.shape = (0, 0, 3)
    video.grab()
    video.retrieve_into(slot)
    assert (video.shape, copies.copies.total()) == ((48, 64, 3), 1)


def test_picture_larger_than_the_bound_is_refused(video, ring):
    small = type(ring)(1, 1000, ring._allocate)
    slot = small.acquire_write()
    video.grab()
    with pytest.raises(FrameError, match="9216 bytes is over the source's bound of 1000"):
        video.retrieve_into(slot)
    small.abandon(slot)


def test_retrieving_without_a_picture_is_a_frame_error(video):
    with pytest.raises(FrameError, match="a picture cannot be decoded"):
        video.retrieve()


def test_rate_and_format_are_the_clips(video):
    assert (video.frames_per_s, video.format, video.shape) == (25.0, "bgr8", (48, 64, 3))


def test_impossible_rate_becomes_25(video, monkeypatch):
    class Capture:
        def get(self, _):
            return 90000.0

    monkeypatch.setattr(video, "_capture", Capture(), raising=True)
    rate = video.frames_per_s
    monkeypatch.undo()
    assert rate == 25.0


@pytest.mark.parametrize(
    ("target", "backend", "settings", "message"),
    [
        (
            "/nowhere/clip.avi",
            FFMPEG,
            (),
            "/nowhere/clip.avi cannot be opened: there is no such file or device.",
        ),
        ("/dev/video77", V4L2, (), "/dev/video77 cannot be opened: there is no such file or device."),
        ("/dev/null", V4L2, device_settings(640, 480, 0, ""), "/dev/null cannot be opened: it may be in use"),
        ("rtsp://u:secret@127.0.0.1:1/x", FFMPEG, (), "rtsp://u:***@127.0.0.1:1/x cannot be opened."),
        ("nosuchelement ! appsink", GSTREAMER, (), "nosuchelement ! appsink cannot be opened."),
    ],
)
def test_what_cannot_be_opened_says_why(target, backend, settings, message, copies):
    with pytest.raises(SourceError) as failure:
        Video(target, backend, settings, copies)
    assert str(failure.value).startswith(message)


def test_settings_are_pairs_without_those_left_open():
    assert device_settings(0, 0, 0, "") == []
    assert device_settings(640, 480, 30, "MJPG") == [
        6,
        int.from_bytes(b"MJPG", "little"),
        3,
        640,
        4,
        480,
        5,
        30,
    ]
    assert network_settings(3.0, 0.0)[:2] == [53, 3000]
    assert 54 not in network_settings(3.0, 0.0)
    assert network_settings(3.0, 1.5)[2:4] == [54, 1500]


def test_features_name_what_this_opencv_can_read():
    features = opencv_features()
    assert {"FFmpeg", "GStreamer", "V4L2"} <= features.keys()
    assert features["GStreamer"] == ("yes" if has_gstreamer() else "no")
