from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgert.capture import picture_file
from edgert.capture.picture import encode_png
from edgert.capture.picture_file import list_pictures, read_picture
from edgert.errors import ConfigError, FrameError


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)


def test_a_png_is_lossless(image, tmp_path):
    for number, picture in enumerate((image, image[:, :, 0], image[:, ::2], image[::-1])):
        file = tmp_path / f"{number}.png"
        file.write_bytes(encode_png(picture))
        found = read_picture(file)
        three = picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2)
        np.testing.assert_array_equal(found.image_bgr, three)
        assert found.content == file.read_bytes()


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4, 7)])
def test_what_no_png_holds_is_refused(shape):
    with pytest.raises(FrameError, match="OpenCV makes no PNG"):
        encode_png(np.zeros(shape, np.uint8))


def test_the_first_bytes_say_what_a_file_is(image, tmp_path):
    (tmp_path / "a.png").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    assert read_picture(tmp_path / "a.png").image_bgr.shape == (7, 9, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "begins with b'', which is neither JPEG nor PNG"),
        (b"\x89PNG\r\n\x1a\n", "is cut off"),
        (b"\xff\xd8" + bytes(100), "is corrupt"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, content, reason):
    file = tmp_path / "a.jpg"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(FrameError, match=reason):
        read_picture(file)


def test_a_huge_file_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_file, "MAX_BYTES", 10)
    (tmp_path / "a.png").write_bytes(bytes(11))
    with pytest.raises(FrameError, match="has more than 10 bytes"):
        read_picture(tmp_path / "a.png")


def test_folders_and_files_are_listed_in_order(tmp_path):
    for name in ("b.JPG", "a.png", "c.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    found = list_pictures([tmp_path / "c.jpeg", tmp_path], "--frames")
    assert [path.name for path in found] == ["c.jpeg", "a.png", "b.JPG", "c.jpeg"]
    assert list_pictures([], "--frames") == ()


def test_what_is_not_there_is_an_error_that_names_the_option(tmp_path):
    with pytest.raises(ConfigError, match=r"--frames .*absent: no such file or folder"):
        list_pictures([tmp_path / "absent"], "--frames")
    with pytest.raises(ConfigError, match=r"--frames .*: holds no picture, expected files ending in \.jpg"):
        list_pictures([tmp_path], "--frames")
