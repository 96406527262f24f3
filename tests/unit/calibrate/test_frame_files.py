from __future__ import annotations

import hashlib
import resource
from contextlib import contextmanager

import numpy as np
import pytest

from edgert.calibrate.sample.frame_files import MARKER, check_frames, open_frame_folder, remove_frames
from edgert.capture.picture_file import read_frame
from edgert.errors import ConfigError, FrameError
from tests.unit.calibrate.sample_frames import files_in, picture

NV12 = np.random.default_rng(7).integers(0, 256, (12, 10), np.uint8)


@contextmanager
def a_disk_that_takes(size_bytes):
    """Let the kernel refuse what a file has beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("image", "pixel_format", "name", "expected"),
    [
        (picture(1), "bgr8", "000007.png", (picture(1), "bgr8")),
        (picture(1), "rgb8", "000007.png", (picture(1)[:, :, ::-1], "bgr8")),
        (picture(1)[:, :, 0], "gray8", "000007.gray8.png", (picture(1)[:, :, 0], "gray8")),
        (NV12, "nv12", "000007.nv12.png", (NV12, "nv12")),
    ],
)
def test_pixels_come_back_as_they_were(tmp_path, image, pixel_format, name, expected):
    with open_frame_folder(tmp_path) as folder:
        file = folder.write(7, image, pixel_format)
    assert file.path == tmp_path / "frames" / name
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    found, found_format = read_frame(file.path)
    np.testing.assert_array_equal(found, expected[0])
    assert found_format == expected[1]
    assert found.flags.c_contiguous


def test_leftovers_are_removed_at_the_first_frame_and_other_files_stay(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    ours = MARKER, "000001.png", "1000000.png", "000002.nv12.png", "000003.png.partial"
    for name in (*ours, "mine.png", "1.png"):
        (frames / name).touch()
    with open_frame_folder(tmp_path) as folder:
        assert len(files_in(frames)) == 6
        folder.write(5, picture(0), "bgr8")
    assert files_in(frames) == ["000005.png", "1.png", "mine.png"]


def test_a_folder_that_edgert_has_not_made_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000001.png").write_bytes(b"mine")
    with (
        pytest.raises(ConfigError, match=r"frames: holds files, and edgert has not made this folder"),
        open_frame_folder(tmp_path) as folder,
    ):
        folder.write(1, picture(1), "bgr8")
    with pytest.raises(ConfigError, match="nothing was removed"):
        check_frames(tmp_path)
    remove_frames(tmp_path)
    assert [path.name for path in (tmp_path / "frames").iterdir()] == ["000001.png"]
    assert (tmp_path / "frames" / "000001.png").read_bytes() == b"mine"


@pytest.mark.parametrize("others", [[], ["mine.png"]])
def test_edgerts_own_frames_can_be_removed(tmp_path, others):
    with open_frame_folder(tmp_path) as folder:
        folder.keep({folder.write(3, picture(3), "bgr8").path})
    for name in others:
        (tmp_path / "frames" / name).touch()
    check_frames(tmp_path)
    remove_frames(tmp_path)
    assert files_in(tmp_path) == [f"frames/{name}" for name in others]
    assert (tmp_path / "frames").exists() is bool(others)


def end_with(error, work, use):
    """Use the folder of `work`, and raise in it."""
    with open_frame_folder(work) as folder:
        use(folder)
        raise error


def test_a_folder_that_is_not_written_is_not_touched(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "000001.png").touch()
    with pytest.raises(KeyboardInterrupt):
        end_with(KeyboardInterrupt, tmp_path, lambda folder: folder.keep(()))
    assert files_in(tmp_path) == ["frames/000001.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConfigError])
def test_nothing_stays_after_an_error(tmp_path, error):
    def keep_three(folder):
        folder.keep({folder.write(number, picture(number), "bgr8").path for number in range(3)})
        assert len(files_in(tmp_path)) == 3

    with pytest.raises(error):
        end_with(error, tmp_path, keep_three)
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_kept_stays(tmp_path):
    with open_frame_folder(tmp_path) as folder:
        written = [folder.write(number, picture(number), "bgr8").path for number in range(4)]
        folder.remove(written[0])
        folder.keep({written[2]})
    assert files_in(tmp_path) == ["frames/000002.png"]


def test_a_picture_elsewhere_is_never_removed(tmp_path):
    other = tmp_path / "000001.png"
    other.touch()
    with open_frame_folder(tmp_path) as folder:
        folder.remove(other)
    assert other.exists()


def test_a_full_disk_is_an_error_that_leaves_no_half_file(tmp_path):
    with open_frame_folder(tmp_path) as folder:
        folder.write(0, picture(0), "bgr8")
        with (
            a_disk_that_takes(64),
            pytest.raises(ConfigError, match=r"000001.png: cannot be written: File too large"),
        ):
            folder.write(1, picture(1), "bgr8")
        assert files_in(tmp_path) == ["frames/000000.png"]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "work").touch()
    with (
        pytest.raises(ConfigError, match=r"work/frames: cannot be written"),
        open_frame_folder(tmp_path / "work") as folder,
    ):
        folder.write(0, picture(0), "bgr8")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(tmp_path, content):
    file = tmp_path / "000000.png"
    file.write_bytes(content)
    with pytest.raises(FrameError):
        read_frame(file)
