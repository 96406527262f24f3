from __future__ import annotations

import numpy as np
import pytest

from edgert.capture import replay
from edgert.capture.replay import ReplaySource, decode_clip, make_noise
from edgert.errors import ClosedError, ConfigError, EndOfSourceError, SourceError
from edgert.stats import CopyCounts


def read_all(source, slot):
    source.open()
    pictures = []
    try:
        while True:
            captured = source.read(slot, 1.0)
            pictures.append(slot.view((captured.height, captured.width, 3)).copy())
    except EndOfSourceError:
        source.close()
        return pictures


def test_noise_is_the_same_every_time(slot):
    first, second = (read_all(ReplaySource(lambda: make_noise(16, 8, 3, seed=7)), slot) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.shape(first) == (3, 8, 16, 3)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, make_noise(16, 8, 3, seed=8))


def test_each_picture_costs_one_counted_copy(slot):
    copies = CopyCounts()
    read_all(ReplaySource(lambda: make_noise(16, 8, 3, 0), copies=copies), slot)
    assert (copies.copies["host_to_host"], copies.bytes["host_to_host"]) == (3, 3 * 16 * 8 * 3)


def test_total_goes_round(slot):
    pictures = read_all(ReplaySource(lambda: make_noise(16, 8, 2, 0), total=5), slot)
    assert len(pictures) == 5
    assert np.array_equal(pictures[0], pictures[4])


def test_negative_total_has_no_end(slot):
    source = ReplaySource(lambda: make_noise(16, 8, 2, 0), total=-1)
    source.open()
    assert all(source.read(slot, 0.0) for _ in range(50))


def test_replay_is_paced_when_asked(slot, clock):
    source = ReplaySource(lambda: make_noise(16, 8, 3, 0), frames_per_s=10.0, clock=clock)
    source.open()
    began = clock.now_ns
    assert [source.read(slot, 1.0).captured_mono_ns - began for _ in range(3)] == [0, 10**8, 2 * 10**8]


def test_waiting_ends_with_the_timeout(slot, clock):
    source = ReplaySource(lambda: make_noise(16, 8, 3, 0), frames_per_s=1.0, clock=clock)
    source.open()
    source.read(slot, 0.1)
    assert source.read(slot, 0.1) is None


def test_discarded_picture_is_gone(slot):
    source = ReplaySource(lambda: make_noise(16, 8, 2, 0))
    source.open()
    assert source.read(None, 0.0).width == 16
    source.read(slot, 0.0)
    assert np.array_equal(slot.view((8, 16, 3)), make_noise(16, 8, 2, 0)[1])


def test_clip_is_decoded_before_the_first_frame(make_clip, slot):
    path = make_clip(5)
    source = ReplaySource(lambda: decode_clip(path, 0))
    source.open()
    path.unlink()
    levels = [round(float(_level(source, slot)), -1) for _ in range(5)]
    assert levels == [0, 10, 20, 30, 40]


def test_clip_can_be_taken_in_part(make_clip):
    assert len(decode_clip(make_clip(5), 2)) == 2


def test_more_than_memory_may_hold_is_refused(make_clip, monkeypatch):
    monkeypatch.setattr(replay, "MAX_BYTES", 3 * 48 * 64 * 3)
    assert len(decode_clip(make_clip(3), 0)) == 3
    with pytest.raises(ConfigError, match=r"needs more than 0 MiB of memory; take fewer"):
        decode_clip(make_clip(4), 0)
    with pytest.raises(ConfigError, match="replay:noise needs more than"):
        make_noise(1000, 1000, 1000, 0)


def test_missing_clip_is_a_source_error(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        decode_clip(tmp_path / "none.avi", 0)


def test_clip_without_frames_is_at_its_end(make_clip):
    path = make_clip(1)
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"movi") + 4])
    with pytest.raises(EndOfSourceError, match="holds no frame"):
        decode_clip(path, 0)


def test_reading_a_closed_replay_is_refused(slot):
    with pytest.raises(ClosedError):
        ReplaySource(lambda: make_noise(16, 8, 2, 0), total=-1).read(slot, 0.0)


def _level(source, slot):
    captured = source.read(slot, 1.0)
    return slot.view((captured.height, captured.width, 3)).mean()
