from __future__ import annotations

import os

import numpy as np
import pytest

from edgert.capture import shm
from edgert.capture.shm import ShmPlace, ShmReader
from edgert.errors import FrameError


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.fixture
def reader(folder):
    reader = ShmReader(folder)
    yield reader
    reader.close()


@pytest.fixture
def target():
    return np.zeros((2, 5, 3), np.uint8)


def place(name="cam", offset=0, count=30):
    return ShmPlace(name, offset, count)


def test_pixels_are_copied_from_their_place(folder, reader, target):
    (folder / "cam").write_bytes(bytes(range(100)))
    reader.read_into(place(offset=7), target)
    assert target.ravel().tolist() == list(range(7, 37))


def test_name_may_have_its_posix_slash(folder, reader, target):
    (folder / "cam").write_bytes(bytes(30))
    reader.read_into(place("/cam"), target)


def test_object_stays_open_for_the_next_frame(folder, reader, target):
    (folder / "cam").write_bytes(bytes(30))
    for _ in range(3):
        reader.read_into(place(), target)
    assert ShmReader.live.count == 1


def test_object_made_anew_under_its_name_is_seen(folder, reader, target):
    (folder / "cam").write_bytes(bytes(30))
    reader.read_into(place(), target)
    (folder / "new").write_bytes(b"\x07" * 30)
    (folder / "new").rename(folder / "cam")
    reader.read_into(place(), target)
    assert target.min() == 7
    assert ShmReader.live.count == 1


def test_number_of_open_objects_is_bounded(folder, reader, target, monkeypatch):
    monkeypatch.setattr(shm, "MAX_OPEN", 2)
    for name in ("a", "b", "c", "a", "d"):
        (folder / name).write_bytes(bytes(30))
        reader.read_into(place(name), target)
        assert ShmReader.live.count <= 2


@pytest.mark.parametrize("offset", [71, 1000, 2**62])
def test_place_beyond_the_end_is_refused_with_both_numbers(folder, reader, target, offset):
    (folder / "cam").write_bytes(bytes(100))
    with pytest.raises(FrameError, match="Shared memory 'cam'"):
        reader.read_into(place(offset=offset), target)


def test_object_that_shrinks_meanwhile_is_refused_and_harms_nobody(folder, reader, target):
    (folder / "cam").write_bytes(bytes(30))
    reader.read_into(place(), target)
    os.truncate(folder / "cam", 10)
    with pytest.raises(FrameError, match="ends at byte 10; the frame needs 30"):
        reader.read_into(place(), target)


@pytest.mark.parametrize(
    "name", ["", "/", "..", "../secret", "a/b", "//a", ".hidden", "a\0b", "a" * 256, "ä"]
)
def test_name_that_is_no_name_is_refused(reader, target, name):
    with pytest.raises(FrameError, match=r"expected letters, digits and \._- after an optional /"):
        reader.read_into(place(name), target)


def test_missing_object_is_refused(reader, target):
    with pytest.raises(FrameError, match="'cam' cannot be read: No such file or directory"):
        reader.read_into(place(), target)


def test_object_that_vanishes_is_refused(folder, reader, target):
    (folder / "cam").write_bytes(bytes(30))
    reader.read_into(place(), target)
    (folder / "cam").unlink()
    with pytest.raises(FrameError, match="No such file"):
        reader.read_into(place(), target)


def test_link_folder_and_pipe_are_refused(folder, reader, target):
    (folder / "real").write_bytes(bytes(30))
    (folder / "link").symlink_to(folder / "real")
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    for name in ("link", "sub", "pipe"):
        with pytest.raises(FrameError):
            reader.read_into(place(name), target)
    assert ShmReader.live.count == 0
