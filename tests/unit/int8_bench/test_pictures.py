"""How the bench splits pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgert.errors import SourceError
from tests.int8_bench.pictures import (
    Picture,
    clip_frames,
    crops,
    family_by_name,
    join_families,
    read_pictures,
    split_pictures,
    spread,
)


def family(name, count, is_coloured=True):
    return [Picture(Path(f"{name}{number}.png"), name, is_coloured) for number in range(count)]


def noise(seed, height=200, width=240):
    """A coloured picture that is like no other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("aloeL", "aloe"),
        ("ela_modified", "ela"),
        ("graf3", "graf"),
        ("000", "000"),
        ("Blender_Suzanne1", "blender"),
        ("right07", "left"),
        ("opencv-logo-white", "opencv"),
    ],
)
def test_a_family_is_the_first_word_of_a_name(stem, name):
    assert family_by_name(stem) == name


def test_no_family_is_on_both_sides():
    pictures = [picture for number in range(30) for picture in family(f"f{number}_", number % 5 + 1)]
    split = split_pictures(pictures, 20)
    of = {picture.path: picture.family for picture in pictures}
    assert len(split.held_out) == 20
    assert split.calibration
    assert not {of[path] for path in split.held_out} & {of[path] for path in split.calibration}


def test_the_split_does_not_depend_on_the_order_of_files():
    pictures = [picture for name in "abcdefgh" for picture in family(name, 2)]
    assert split_pictures(pictures, 5) == split_pictures(pictures[::-1], 5)


def test_gray_pictures_are_not_held_out():
    split = split_pictures([*family("a", 2, is_coloured=False), *family("b", 2)], 4)
    assert [path.name for path in split.held_out] == ["b0.png", "b1.png"]
    assert [path.name for path in split.calibration] == ["a0.png", "a1.png"]


def test_a_large_family_gives_only_a_few():
    split = split_pictures(family("a", 9), 40)
    assert (len(split.held_out), len(split.calibration)) == (3, 0)
    assert len(split_pictures(family("a", 9), 0).calibration) == 4


def test_families_with_two_pictures_alike_are_joined_as_a_whole():
    thumbnails = np.eye(4)
    thumbnails[2] = thumbnails[1]
    assert join_families(["a", "a", "b", "c"], thumbnails) == ["a", "a", "a", "c"]


def test_the_same_picture_under_two_names_is_one_family(tmp_path):
    cv2.imwrite(str(tmp_path / "one.png"), noise(1))
    cv2.imwrite(str(tmp_path / "other.jpg"), cv2.resize(noise(1), (300, 250)))
    cv2.imwrite(str(tmp_path / "third.png"), noise(2))
    families = {picture.path.stem: picture.family for picture in read_pictures(tmp_path)}
    assert families["one"] == families["other"] != families["third"]


def test_small_pictures_and_masks_are_left_out(tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), noise(1, height=100))
    cv2.imwrite(str(tmp_path / "mask.png"), (noise(2) > 128).astype(np.uint8) * 255)
    cv2.imwrite(str(tmp_path / "gray.png"), cv2.cvtColor(noise(3), cv2.COLOR_BGR2GRAY))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert [(p.path.name, p.is_coloured) for p in read_pictures(tmp_path)] == [("gray.png", False)]


def test_crops_are_the_four_corners():
    image = np.arange(100).reshape(10, 10)
    corners = [(0, 0), (0, 9), (9, 0), (9, 9)]
    for part, (row, column) in zip(crops(image), corners, strict=True):
        assert part.shape == (6, 6)
        assert image[row, column] in part


def test_spread_is_even_and_stays_below_the_end():
    assert spread(450, 460, 5) == [450, 452, 454, 456, 458]
    assert spread(0, 3, 3) == [0, 1, 2]


def test_a_clip_that_ends_too_early_is_an_error(tmp_path):
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for value in (0, 60, 120):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    assert [round(float(frame.mean()) / 60) for frame in clip_frames(clip, [2, 0])] == [0, 2]
    with pytest.raises(SourceError, match="ends at frame 3"):
        list(clip_frames(clip, [5]))
