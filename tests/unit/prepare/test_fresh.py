from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import FrameError, ModelError
from edgert.prepare.convert import Preparer
from edgert.prepare.fresh import FreshPreparer
from edgert.prepare.options import PrepareOptions


@pytest.mark.parametrize(
    ("pixel_format", "shape"),
    [("bgr8", (20, 30, 3)), ("rgb8", (20, 30, 3)), ("gray8", (20, 30)), ("nv12", (30, 30))],
)
def test_a_tensor_is_that_of_the_lane(pixel_format, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    options = PrepareOptions(mean=10.0, scale=0.5)
    in_lane = np.empty((3, 16, 16), np.float16)
    placement = Preparer(options, (3, 16, 16), "float16").place(image, pixel_format, in_lane)
    tensor, found = FreshPreparer(options, (3, 16, 16), "float16").prepare(image, pixel_format)
    np.testing.assert_array_equal(tensor, in_lane)
    assert (found, tensor.dtype, found.source_height) == (placement, np.float16, 20)


def test_each_tensor_is_the_callers():
    preparer = FreshPreparer(PrepareOptions(), (3, 8, 8), "uint8")
    first, _ = preparer.prepare(np.full((8, 8, 3), 1, np.uint8))
    preparer.prepare(np.full((8, 8, 3), 2, np.uint8))
    assert (first == 1).all()


def test_open_sides_are_those_of_the_picture():
    preparer = FreshPreparer(PrepareOptions(fit="none"), (3, -1, -1), "uint8")
    assert preparer.prepare(np.zeros((5, 6, 3), np.uint8))[0].shape == (3, 5, 6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ModelError):
        FreshPreparer(PrepareOptions(), (2, 8, 8), "uint8")
    with pytest.raises(FrameError):
        FreshPreparer(PrepareOptions(fit="none"), (3, 8, 8), "uint8").prepare(np.zeros((5, 6, 3), np.uint8))
