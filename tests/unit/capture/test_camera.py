from __future__ import annotations

import threading
import time

import pytest

from edgert.capture.camera import CameraSource, Grabber
from edgert.capture.unforeseen import UnforeseenError
from edgert.capture.video import FFMPEG
from edgert.errors import ClosedError, SourceError
from edgert.stats import CopyCounts

WAIT_S = 10.0  # a test that waits so long has failed


class SlowVideo:
    """Stands in for Video: `grab` blocks until the test lets it go."""

    def __init__(self):
        self.may_grab = threading.Semaphore(0)
        self.shape, self.format = (4, 6, 3), "bgr8"
        self.is_closed = threading.Event()
        self.pictures = 3

    def grab(self):
        assert self.may_grab.acquire(timeout=WAIT_S)
        self.pictures -= 1
        return self.pictures >= 0

    def retrieve_into(self, slot):
        slot.fit(self.shape)[...] = self.pictures

    def close(self):
        self.is_closed.set()


@pytest.fixture
def video():
    return SlowVideo()


@pytest.fixture
def camera(clock, video):
    camera = CameraSource("rtsp://u:secret@cam/x", FFMPEG, clock=clock)
    camera._open_video = lambda: video
    camera.open()
    yield camera
    for _ in range(5):
        video.may_grab.release()
    camera.close()
    assert video.is_closed.wait(WAIT_S)


def test_reading_ends_with_the_timeout_while_the_camera_blocks(camera, slot):
    assert camera.read(slot, 0.01) is None


def test_picture_is_delivered_with_the_time_it_was_grabbed(camera, video, slot, clock):
    video.may_grab.release()
    captured = camera.read(slot, WAIT_S)
    assert (captured.height, captured.width, captured.format) == (4, 6, "bgr8")
    assert (captured.captured_mono_ns, captured.captured_utc_ns) == (clock.monotonic_ns(), clock.utc_ns())
    assert slot.view((4, 6, 3)).max() == 2


def test_discarded_picture_is_not_converted(camera, video, slot):
    video.may_grab.release()
    video.may_grab.release()
    assert camera.read(None, WAIT_S).width == 6
    camera.read(slot, WAIT_S)
    assert slot.view((4, 6, 3)).max() == 1


def test_camera_that_stops_delivering_is_a_source_error_each_time(camera, video, slot):
    video.pictures = 0
    video.may_grab.release()
    for _ in range(2):
        with pytest.raises(SourceError, match=r"rtsp://u:\*\*\*@cam/x has stopped delivering pictures"):
            camera.read(slot, WAIT_S)


def test_second_connection_waits_for_the_first_to_close(camera, video, clock):
    camera.close()  # gives up waiting: the camera still blocks
    with pytest.raises(SourceError, match="the connection before has not closed yet"):
        camera.open()


def test_camera_that_cannot_be_opened_says_so_when_it_is_read(slot):
    camera = CameraSource("rtsp://u:secret@127.0.0.1:1/x", FFMPEG)
    camera.open()
    with pytest.raises(SourceError, match=r"rtsp://u:\*\*\*@127.0.0.1:1/x cannot be opened"):
        camera.read(slot, WAIT_S)
    camera.close()


def test_real_video_is_read_in_place_until_it_stops(make_clip, slot):
    copies = CopyCounts()
    camera = CameraSource(str(make_clip(4)), FFMPEG, copies=copies)
    camera.open()
    levels = [round(float(_view(camera, slot).mean()), -1) for _ in range(4)]
    assert (levels, copies.copies.total()) == ([0, 10, 20, 30], 0)
    with pytest.raises(SourceError, match="stopped delivering"):
        camera.read(slot, WAIT_S)
    camera.close()


@pytest.mark.parametrize("when", ["open", "grab"])
def test_unforeseen_failure_of_the_grabber_is_raised_where_the_camera_is_read(video, slot, when):
    cause = RuntimeError("driver at rtsp://u:secret@cam/x")

    def fail():
        raise cause

    camera = CameraSource("rtsp://u:secret@cam/x", FFMPEG)
    camera._open_video = fail if when == "open" else lambda: video
    video.grab = fail
    camera.open()
    with pytest.raises(UnforeseenError, match=r"rtsp://u:\*\*\*@cam/x broke: RuntimeError") as failure:
        camera.read(slot, WAIT_S)
    assert failure.value.__cause__ is cause
    assert "secret" not in str(failure.value)
    camera.close()
    assert video.is_closed.is_set() == (when == "grab")


def test_processor_time_of_every_grabber_is_kept_after_its_end(video, slot):
    def work():
        until_ns = time.thread_time_ns() + 20_000_000
        while time.thread_time_ns() < until_ns:
            pass
        return True

    video.grab = video.close = work
    camera = CameraSource("rtsp://cam/x", FFMPEG)
    camera._open_video = lambda: video
    assert camera.helper_cpu_ns() == 0
    for turn in (1, 2):
        camera.open()
        assert camera.read(slot, WAIT_S)
        assert camera.helper_cpu_ns() >= turn * 40_000_000 - 20_000_000
        camera.close()
        camera._grabber._thread.join(WAIT_S)
        assert camera.helper_cpu_ns() >= turn * 40_000_000


def test_reading_before_opening_is_refused(slot):
    camera = CameraSource("/dev/video0", FFMPEG)
    camera.close()
    with pytest.raises(ClosedError):
        camera.read(slot, 0.0)


def test_grabber_holds_one_picture_until_it_is_converted(video, clock):
    grabber = Grabber("cam", lambda: video, clock)
    grabber.start()
    for _ in range(4):
        video.may_grab.release()
    assert grabber.wait(WAIT_S) is video
    assert grabber.wait(0.01) is None
    assert video.pictures == 2
    grabber.stop(WAIT_S)
    assert not grabber.is_alive()


def _view(camera, slot):
    captured = camera.read(slot, WAIT_S)
    return slot.view((captured.height, captured.width, 3))
