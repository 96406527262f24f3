from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgert.calibrate.sample.frame_files import FrameFolder
from edgert.calibrate.sample.picture_frames import PictureFrames, RecordedFrames, open_pictures
from edgert.calibrate.sample.sample_set import SampleFrame, SampleSet, save_sample_set
from edgert.errors import ConfigError
from tests.unit.calibrate.sample_frames import files_in, options_for, picture, write_pictures


@pytest.fixture
def folder(tmp_path):
    write_pictures(tmp_path / "pictures", range(8))
    return tmp_path / "pictures"


def names(frames):
    return [candidate.file.path.name for candidate in frames.read()]


def test_pictures_stay_where_they_are_and_are_hashed(folder):
    [first, *_] = PictureFrames([folder / "0000.png"], 5).read()
    np.testing.assert_array_equal(first.image, picture(0))
    assert (first.format, first.source) == ("bgr8", f"{folder}#0")
    assert first.captured_utc_ns == (folder / "0000.png").stat().st_mtime_ns
    assert first.file.sha256 == hashlib.sha256((folder / "0000.png").read_bytes()).hexdigest()


def test_folders_and_listed_files_are_read_relative_to_the_recipe(folder, tmp_path):
    [extra] = write_pictures(tmp_path / "more", [90])
    options = options_for(pictures=("pictures", "more/0090.png", "pictures/0003.jpg"), choice="farthest")
    found = [candidate.file.path for candidate in open_pictures(options, tmp_path).read()]
    assert found == [*sorted(folder.iterdir()), extra]


def test_a_reservoir_reads_no_more_pictures_than_are_wanted(folder, tmp_path):
    options = options_for(pictures=("pictures",), count=2, selection_count=1, held_out_count=1)
    frames = open_pictures(options, tmp_path)
    found = names(frames)
    assert (len(found), frames.total) == (4, 4)
    assert found == names(open_pictures(options, tmp_path))
    others = options_for(pictures=("pictures",), count=2, selection_count=1, held_out_count=1, seed=1)
    assert found != names(open_pictures(others, tmp_path))


def test_each_nth_picture_and_at_most_so_many(folder, tmp_path):
    options = options_for(pictures=("pictures",), every=3, choice="farthest")
    assert names(open_pictures(options, tmp_path)) == ["0000.png", "0003.jpg", "0006.png"]
    options = options_for(pictures=("pictures",), max_frames=2, choice="farthest")
    assert names(open_pictures(options, tmp_path)) == ["0000.png", "0001.jpg"]


def test_what_cannot_be_read_is_skipped_and_named(folder, tmp_path):
    (folder / "0002.png").write_bytes((folder / "0002.png").read_bytes()[:60])
    (folder / "0004.png").write_bytes(b"GIF89a")
    (folder / "0005.jpg").write_bytes(b"")
    (folder / "0007.jpg").unlink()
    (folder / "0007.jpg").mkdir()
    frames = open_pictures(options_for(pictures=("pictures",), choice="farthest"), tmp_path)
    assert names(frames) == ["0000.png", "0001.jpg", "0003.jpg", "0006.png"]
    [warning] = frames.warnings()
    assert warning.startswith(f"4 pictures cannot be used and were skipped: {folder}/0002.png: The png")
    assert f"{folder}/0004.png: begins with b'GIF8', which is neither JPEG nor PNG" in warning
    assert warning.endswith("; ...")


def test_unreadable_pictures_are_made_up_for_by_others(folder, tmp_path):
    for name in ("0000.png", "0002.png", "0004.png"):
        (folder / name).write_bytes(b"")
    options = options_for(pictures=("pictures",), count=3, selection_count=1, held_out_count=1)
    assert len(names(open_pictures(options, tmp_path))) == 5


def test_a_copy_of_a_picture_counts_as_the_same(folder, tmp_path):
    (folder / "0009.png").write_bytes((folder / "0001.jpg").read_bytes())
    frames = open_pictures(options_for(pictures=("pictures",), choice="farthest"), tmp_path)
    assert "0009.png" not in names(frames)
    assert frames.warnings() == ["1 pictures are copies of others and were left out"]


@pytest.mark.parametrize(
    ("name", "reason"), [("absent", "no such file or folder"), (".", "holds no picture")]
)
def test_nothing_to_read_is_an_error(tmp_path, name, reason):
    with pytest.raises(ConfigError, match=rf"\[sample\] pictures .*: {reason}"):
        open_pictures(options_for(pictures=(name,)), tmp_path)


@pytest.fixture
def recording(tmp_path):
    """A sample set: BGR, gray and NV12 frames, listed out of order."""
    folder, frames = FrameFolder(tmp_path / "rec"), []
    nv12 = np.arange(24, dtype=np.uint8).reshape(6, 4)
    for number, (image, pixel_format) in enumerate(
        [(picture(0), "bgr8"), (picture(1)[:, :, 0], "gray8"), (nv12, "nv12"), (picture(3), "bgr8")]
    ):
        file = folder.write(number, image, pixel_format)
        name = str(file.path.relative_to(tmp_path / "rec"))
        frames.append(SampleFrame(name, file.sha256, f"csi:0#{5 * number}", 100 + number))
    sets = (frames[3], frames[1]), (frames[0],), (frames[2],)
    save_sample_set(SampleSet(*sets, 0, "reservoir", 4), tmp_path / "rec" / "samples.json")
    return tmp_path / "rec"


@pytest.mark.parametrize("name", ["", "samples.json"])
def test_a_recording_is_read_in_the_order_of_time(recording, name):
    frames = RecordedFrames(recording / name, 1, 0)
    found = list(frames.read())
    assert [each.source for each in found] == ["csi:0#0", "csi:0#5", "csi:0#10", "csi:0#15"]
    assert [each.format for each in found] == ["bgr8", "gray8", "nv12", "bgr8"]
    assert [each.captured_utc_ns for each in found] == [100, 101, 102, 103]
    assert (frames.total, frames.is_in_order, frames.warnings()) == (4, True, [])
    np.testing.assert_array_equal(found[3].image, picture(3))
    assert found[0].file.path == recording / "frames" / "000000.png"


def test_a_recording_is_thinned(recording):
    assert [each.source for each in RecordedFrames(recording, 2, 1).read()] == ["csi:0#0"]


def test_a_recording_that_has_changed_is_refused(recording):
    (recording / "frames" / "000003.png").unlink()
    with pytest.raises(ConfigError, match=r"000003.png: is missing"):
        RecordedFrames(recording, 1, 0)


def test_a_folder_without_a_list_is_no_recording(tmp_path):
    with pytest.raises(ConfigError, match=r"samples.json: cannot be read"):
        RecordedFrames(tmp_path, 1, 0)
    assert files_in(tmp_path) == []
