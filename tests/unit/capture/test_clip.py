from __future__ import annotations

import pytest

from edgert.capture.clip import ClipSource
from edgert.errors import ClosedError, EndOfSourceError, SourceError
from edgert.stats import CopyCounts


@pytest.fixture
def play(clock):
    """Return a function that opens a clip; it is closed after the test."""
    opened = []

    def open_clip(path, **options):
        source = ClipSource(path, clock=clock, **options)
        opened.append(source)
        source.open()
        return source

    yield open_clip
    for source in opened:
        source.close()


def read_all(source, slot):
    levels = []
    try:
        while True:
            levels.append(round(float(_view(source, slot).mean()), -1))
    except EndOfSourceError as end:
        return levels, str(end)


def test_clip_is_played_once_at_its_own_rate(play, make_clip, slot, clock):
    began = clock.now_ns
    levels, reason = read_all(play(make_clip(5, rate=10.0)), slot)
    assert levels == [0, 10, 20, 30, 40]
    assert reason.endswith("has been played, 5 frames.")
    assert clock.now_ns - began == 500_000_000  # the end is noticed when a sixth would be due


def test_rate_can_be_said(play, make_clip, slot, clock):
    source = play(make_clip(3), frames_per_s=2.0)
    began = clock.now_ns
    times = [source.read(slot, 1.0).captured_mono_ns - began for _ in range(3)]
    assert times == [0, 500_000_000, 1_000_000_000]


def test_rate_zero_plays_as_fast_as_possible(play, make_clip, slot, clock):
    levels, _ = read_all(play(make_clip(5), frames_per_s=0.0), slot)
    assert (len(levels), clock.pauses_s) == (5, [])


def test_waiting_for_the_next_frame_ends_with_the_timeout(play, make_clip, slot, clock):
    source = play(make_clip(2), frames_per_s=1.0)
    assert source.read(slot, 0.2)
    assert [source.read(slot, 0.2) for _ in range(4)] == [None] * 4
    assert max(clock.pauses_s) == 0.2
    assert source.read(slot, 0.25)


def test_looped_clip_begins_again(play, make_clip, slot):
    source = play(make_clip(2), is_looped=True, frames_per_s=0.0)
    levels = [round(float(_view(source, slot).mean()), -1) for _ in range(5)]
    assert levels == [0, 10, 0, 10, 0]


def test_pictures_are_decoded_in_place(play, make_clip, slot):
    copies = CopyCounts()
    read_all(play(make_clip(3), frames_per_s=0.0, copies=copies), slot)
    assert copies.copies.total() == 0


def test_discarded_frame_is_described_and_gone(play, make_clip, slot):
    source = play(make_clip(2), frames_per_s=0.0)
    discarded = source.read(None, 0.0)
    assert (discarded.format, discarded.height, discarded.width) == ("bgr8", 48, 64)
    assert round(float(_view(source, slot).mean()), -1) == 10


def test_clip_that_is_shorter_than_its_header_says_ends_where_it_ends(play, make_clip, slot):
    path = make_clip(10)
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"movi") + (len(data) - data.find(b"movi")) // 2])
    levels, reason = read_all(play(path, frames_per_s=0.0), slot)
    assert 0 < len(levels) < 10
    assert reason.endswith(f"has been played, {len(levels)} frames.")


@pytest.mark.parametrize("is_looped", [False, True])
def test_clip_without_frames_ends_at_once(play, make_clip, slot, is_looped):
    path = make_clip(1)
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"movi") + 4])
    with pytest.raises(EndOfSourceError, match="holds no frame that can be decoded"):
        play(path, is_looped=is_looped).read(slot, 1.0)


@pytest.mark.parametrize("content", [None, b"", b"this is no video" * 100])
def test_missing_or_foreign_file_is_a_source_error(tmp_path, content):
    path = tmp_path / "clip.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=r"clip.avi cannot be opened"):
        ClipSource(path).open()


def test_clip_that_vanishes_while_looped_is_a_source_error(play, make_clip, slot):
    path = make_clip(1)
    source = play(path, is_looped=True, frames_per_s=0.0)
    source.read(slot, 1.0)
    path.unlink()
    with pytest.raises(SourceError, match="there is no such file"):
        source.read(slot, 1.0)


def test_reading_a_closed_clip_is_refused(make_clip, slot):
    source = ClipSource(make_clip(1))
    with pytest.raises(ClosedError, match="is not open"):
        source.read(slot, 1.0)


def _view(source, slot):
    captured = source.read(slot, 1.0)
    return slot.view((captured.height, captured.width, 3))
