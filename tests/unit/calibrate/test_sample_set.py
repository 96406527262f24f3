from __future__ import annotations

import hashlib
import json
import os

import msgspec
import pytest

from edgert.calibrate.sample.sample_set import SampleFrame, SampleSet, load_sample_set, save_sample_set
from edgert.errors import ConfigError
from tests.unit.calibrate.sample_frames import files_in


@pytest.fixture
def samples(tmp_path):
    """Three frames, one in each set; the last one lies elsewhere."""
    (tmp_path / "work" / "frames").mkdir(parents=True)
    frames = []
    for name in ("frames/000000.png", "frames/000003.png", str(tmp_path / "mine.jpg")):
        (tmp_path / "work" / name).write_bytes(name.encode())
        frames.append(SampleFrame(name, hashlib.sha256(name.encode()).hexdigest(), f"a#{len(frames)}", 5))
    return SampleSet(
        (frames[0],), (frames[1],), (frames[2],), 3, "farthest", 90, ("mind",), {"source": "csi:0"}
    )


@pytest.fixture
def file(tmp_path):
    return tmp_path / "work" / "samples.json"


def test_a_list_comes_back_as_it_was(samples, file):
    save_sample_set(samples, file)
    assert load_sample_set(file) == samples
    assert json.loads(file.read_text())["schema"] == "edgert.samples/1"
    assert f".samples.json.{os.getpid()}" not in files_in(file.parent)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_frame_that_is_gone_or_changed_is_named(samples, file, place):
    save_sample_set(samples, file)
    frame = file.parent / list(samples.frames())[place].file
    content = frame.read_bytes()
    frame.write_bytes(content + b"x")
    with pytest.raises(ConfigError, match=f"{frame}: has changed since it was sampled"):
        load_sample_set(file)
    frame.unlink()
    with pytest.raises(ConfigError, match=f"{frame}: is missing"):
        load_sample_set(file)
    frame.write_bytes(content)
    assert load_sample_set(file) == samples


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"seed": 1}', b"\xff\xfe", b'{"schema": "other/2"}'])
def test_what_is_no_list_is_refused(file, content):
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"samples.json: is no list of samples"):
        load_sample_set(file)


def test_a_list_of_another_schema_is_refused(samples, file):
    save_sample_set(samples, file)
    file.write_text(file.read_text().replace("edgert.samples/1", "edgert.samples/9"))
    with pytest.raises(ConfigError, match=r"samples.json: is no list of samples"):
        load_sample_set(file)


def test_a_missing_list_is_an_error(file):
    with pytest.raises(ConfigError, match=r"samples.json: cannot be read: No such file"):
        load_sample_set(file)


def test_a_list_that_cannot_be_written_leaves_the_old_one(samples, file):
    save_sample_set(samples, file)
    file.with_name(f".samples.json.{os.getpid()}").mkdir()
    with pytest.raises(ConfigError, match=r"samples.json: cannot be written"):
        save_sample_set(msgspec.structs.replace(samples, seed=4), file)
    assert load_sample_set(file).seed == 3


def test_the_folder_is_made(samples, tmp_path):
    file = tmp_path / "new" / "deep" / "samples.json"
    save_sample_set(samples, file)
    assert file.is_file()
