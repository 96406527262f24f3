from __future__ import annotations

import cv2
import numpy as np
import pytest

from edgert.calibrate.sample.descriptor import DESCRIPTOR_LENGTH, describe
from tests.unit.calibrate.sample_frames import picture


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (48, 64), (720, 1280)])
def test_any_size_has_the_same_number_of_values(height, width):
    found = describe(picture(0, height, width), "bgr8")
    assert (found.shape, found.dtype) == ((DESCRIPTOR_LENGTH,), np.float32)
    assert np.isfinite(found).all()


def test_black_and_white_are_as_far_as_pictures_can_be():
    black, white = (describe(np.full((40, 40, 3), level, np.uint8), "bgr8") for level in (0, 255))
    assert np.linalg.norm(white - black) == pytest.approx(np.sqrt(2), abs=1e-5)


def test_rgb_is_seen_as_bgr_and_gray_as_equal_channels():
    image = picture(3, 50, 60)
    np.testing.assert_allclose(describe(image[:, :, ::-1], "rgb8"), describe(image, "bgr8"), atol=1e-6)
    gray = np.ascontiguousarray(image[:, :, 0])
    three = np.repeat(gray[:, :, None], 3, axis=2)
    np.testing.assert_allclose(describe(gray, "gray8"), describe(three, "bgr8"), atol=1e-6)


def test_nv12_is_described_by_its_planes():
    dark = np.concatenate([np.zeros((32, 32), np.uint8), np.full((16, 32), 128, np.uint8)])
    red = dark.copy()
    red[32:, 1::2] = 240
    bright = dark.copy()
    bright[:32, 16:] = 200
    at, of_red, of_bright = (describe(image, "nv12") for image in (dark, red, bright))
    assert np.flatnonzero(of_red - at).tolist() == [DESCRIPTOR_LENGTH - 1]
    cells = (of_bright - at)[:256].reshape(16, 16)
    assert (cells[:, :8] == 0).all()
    np.testing.assert_allclose(cells[:, 8:], 200 / 255 / 16, atol=1e-6)


def test_the_luma_is_that_of_opencv():
    flat = np.full((32, 32, 3), (200, 30, 90), np.uint8)
    expected = int(cv2.cvtColor(flat, cv2.COLOR_BGR2GRAY)[0, 0])
    assert describe(flat, "bgr8")[0] * 16 * 255 == pytest.approx(expected, abs=0.6)
