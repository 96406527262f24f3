from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest

from edgert.calibrate.sample.options import SampleOptions
from edgert.calibrate.sample.stream_frames import StreamFrames, open_stream
from edgert.capture.options import SourceOptions
from edgert.errors import ConfigError, FrameError, SourceError
from tests.fakes.source import FakeSource, ScriptClock
from tests.unit.calibrate.sample_frames import picture

S = 1_000_000_000


@pytest.fixture
def clock():
    return ScriptClock()


@pytest.fixture
def stream(clock):
    """Return a function that makes the frames of a script; `stream.source` is the newest script."""

    def make(script, uri="v4l2:/dev/video0", *, openings=(), table=None, **options):
        make.source = FakeSource(script, clock, openings=openings)
        sample = SampleOptions(source=uri, **options)
        return StreamFrames(make.source, SourceOptions(uri=uri, **(table or {})), sample, clock)

    return make


def after(clock, duration_s, step):
    """Return a step that takes its time."""

    def wait():
        clock.sleep(duration_s)
        return step() if callable(step) else step

    return wait


def read(frames):
    """Return (number, pixels) of every frame; the pixels are copied, as they are the next one's soon."""
    return [(int(each.source.rpartition("#")[2]), each.image.copy()) for each in frames.read()]


def test_frames_come_one_after_another_and_the_source_is_closed(stream):
    frames = stream([picture(number) for number in range(4)], "replay:noise")
    found = read(frames)
    assert [number for number, _ in found] == [0, 1, 2, 3]
    for number, pixels in found:
        np.testing.assert_array_equal(pixels, picture(number))
    assert (stream.source.is_open, frames.warnings(), frames.total) == (False, [], 0)


def test_a_frame_says_where_it_comes_from(stream, clock):
    frames = stream([picture(0)], "rtsp://me:secret@cam/1")
    with contextlib.closing(frames.read()) as candidates:
        candidate = next(candidates)
        assert (candidate.source, candidate.format) == ("rtsp://me:***@cam/1#0", "bgr8")
        assert candidate.captured_utc_ns == clock.utc_ns()
    assert not stream.source.is_open


def test_frames_that_are_not_taken_are_discarded_by_the_source(stream, clock):
    frames = stream([after(clock, 0.5, picture(n)) for n in range(10)], every=4)
    assert [number for number, _ in read(frames)] == [0, 4, 8]


def test_a_live_source_is_thinned_by_time_and_ended_by_it(stream, clock):
    script = [after(clock, 0.5, picture(n)) for n in range(50)]
    frames = stream(script, frames_per_s=1.0, duration_s=4.0)
    assert [number for number, _ in read(frames)] == [0, 2, 4, 6, 8]
    assert not stream.source.is_open


def test_time_ends_a_camera_that_is_silent(stream, clock):
    frames = stream([picture(0), *[None] * 100], duration_s=3.0)
    assert len(read(frames)) == 1


def test_a_source_without_an_end_gets_one(stream):
    frames = stream([picture(n) for n in range(50)], count=3, selection_count=1, held_out_count=1)
    assert frames.total == 20
    assert len(read(frames)) == 20


@pytest.mark.parametrize(("uri", "loop", "total"), [("file:a.mp4", False, 0), ("file:a.mp4", True, 2600)])
def test_a_looped_clip_has_no_end(stream, uri, loop, total):
    assert stream([], uri, table={"loop": loop}).total == total


def test_a_camera_that_cannot_be_opened_is_an_error_at_once(stream, clock):
    frames = stream([], openings=[SourceError("it is in use.")])
    before_ns = clock.now_ns
    with pytest.raises(SourceError, match=r"v4l2:/dev/video0: it is in use\."):
        read(frames)
    assert clock.now_ns == before_ns


def test_a_clip_that_breaks_is_an_error_at_once(stream, clock):
    frames = stream([picture(0), SourceError("gone.")], "file:a.mp4")
    with pytest.raises(SourceError, match=r"file:a.mp4: gone\."):
        read(frames)


def test_a_camera_that_comes_back_in_time_goes_on(stream):
    script = [picture(0), SourceError("unplugged."), picture(1)]
    frames = stream(script, openings=[None, SourceError("absent."), SourceError("absent."), None])
    assert [number for number, _ in _until(frames, 2)] == [0, 1]
    assert stream.source.calls.count("open") == 4


def test_a_camera_that_stays_away_is_an_error_after_its_time(stream, clock):
    script = [picture(0), SourceError("unplugged.")]
    frames = stream(script, openings=[None, *[SourceError("absent.")] * 100], patience_s=30.0)
    before_ns = clock.now_ns
    with pytest.raises(SourceError, match=r"absent\."):
        read(frames)
    assert 30 * S <= clock.now_ns - before_ns < 90 * S
    assert not stream.source.is_open


def test_a_camera_that_never_gives_a_frame_is_an_error(stream, clock):
    frames = stream([None] * 1000, table={"open_timeout_s": 8.0})
    before_ns = clock.now_ns
    with pytest.raises(SourceError, match="no frame for 8 s"):
        read(frames)
    assert 8 * S <= clock.now_ns - before_ns < 9 * S


def test_senders_that_are_silent_are_an_error_after_their_time(stream, clock):
    frames = stream([picture(0), *[None] * 1000], "pull+bind:ipc:///run/x", patience_s=12.0)
    with pytest.raises(SourceError, match="no frame for 12 s"):
        read(frames)


def test_frames_that_are_refused_are_counted_and_named(stream):
    frames = stream([picture(0), FrameError("too large."), FrameError("odd."), picture(1)], "replay:noise")
    assert len(read(frames)) == 2
    assert frames.warnings() == ["replay:noise: 2 frames were refused, the first: too large."]


def test_a_configuration_error_passes(stream):
    with pytest.raises(ConfigError, match="too much"):
        read(stream([], "replay:noise", openings=[ConfigError("too much")]))


def test_ctrl_c_closes_the_source(stream):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(stream([picture(0), interrupt]))
    assert not stream.source.is_open


def test_a_clip_is_found_beside_the_recipe(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(30):
        writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
    writer.release()
    found = read(open_stream(SampleOptions(source="file:a.avi", every=10), tmp_path))
    assert [number for number, _ in found] == [0, 10, 20]
    assert [round(pixels.mean() / 80) for _, pixels in found] == [0, 1, 2]


def test_frames_of_a_clip_have_the_clip_s_time_however_fast_it_is_read(tmp_path):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 48))
    for number in range(30):
        writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
    writer.release()
    options = SampleOptions(source="file:a.avi", every=10)
    for _ in range(2):
        times_ns = [each.captured_utc_ns for each in open_stream(options, tmp_path).read()]
        assert times_ns == [path.stat().st_mtime_ns + n * 400_000_000 for n in range(3)]


def test_what_is_replayed_has_no_time(tmp_path):
    options = SampleOptions(source="replay:noise?width=8&height=8&frames=3")
    assert [each.captured_utc_ns for each in open_stream(options, tmp_path).read()] == [0, 0, 0]


def test_a_clip_that_is_absent_is_an_error(tmp_path):
    with pytest.raises(SourceError, match=r"no\.avi cannot be opened: there is no such file"):
        read(open_stream(SampleOptions(source="file:no.avi"), tmp_path))


def _until(frames, count):
    found = []
    with contextlib.closing(frames.read()) as candidates:
        for candidate in candidates:
            found.append((int(candidate.source.rpartition("#")[2]), candidate.image.copy()))
            if len(found) == count:
                return found
    return found
