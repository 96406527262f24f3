"""What calibration sees is what the service would see, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.calibrate.sample.frame_files import FrameFolder
from edgert.calibrate.sample.prepared import prepared
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.errors import ConfigError, ModelError
from edgert.prepare.convert import Preparer
from edgert.prepare.fresh import FreshPreparer
from edgert.prepare.options import PrepareOptions
from tests.unit.calibrate.sample_frames import picture

NV12 = np.random.default_rng(7).integers(0, 256, (30, 26), np.uint8)
IMAGES = {
    "bgr8": picture(1, 20, 26),
    "rgb8": picture(1, 20, 26),
    "gray8": picture(1, 20, 26)[:, :, 0].copy(),
    "nv12": NV12,
}


@pytest.fixture
def listed(tmp_path):
    """Return a function that writes a frame and returns it as the list has it."""
    folder = FrameFolder(tmp_path)

    def write(image, pixel_format="bgr8", number=0):
        file = folder.write(number, image, pixel_format)
        return SampleFrame(str(file.path.relative_to(tmp_path)), file.sha256, "csi:0#0", 0)

    return write


@pytest.mark.parametrize("colour", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("pixel_format", IMAGES)
def test_a_tensor_is_that_of_the_service(listed, tmp_path, pixel_format, colour):
    options = PrepareOptions(colour=colour, mean=127.5, scale=0.0078431)
    shape = (1 if colour == "gray" else 3, 16, 16)
    image = IMAGES[pixel_format]
    expected = np.empty(shape, np.float32)
    placement = Preparer(options, shape, "float32").place(image, pixel_format, expected)
    frame = listed(image, pixel_format)
    [(found, tensor, at)] = prepared([frame], tmp_path, FreshPreparer(options, shape, "float32"))
    np.testing.assert_array_equal(tensor, expected)
    assert (found, at, tensor.dtype) == (frame, placement, np.float32)


def test_open_sides_are_those_of_the_frame(listed, tmp_path):
    preparer = FreshPreparer(PrepareOptions(fit="none"), (3, -1, -1), "uint8")
    frames = [listed(picture(n, 4 + 2 * n, 6), number=n) for n in range(3)]
    assert [tensor.shape for _, tensor, _ in prepared(frames, tmp_path, preparer)] == [
        (3, 4, 6),
        (3, 6, 6),
        (3, 8, 6),
    ]


def test_one_frame_is_read_at_a_time(listed, tmp_path):
    frames = [listed(picture(n), number=n) for n in range(2)]
    found = prepared(frames, tmp_path, FreshPreparer(PrepareOptions(), (3, 8, 8), "float32"))
    next(found)
    (tmp_path / frames[1].file).unlink()
    with pytest.raises(ConfigError, match=r"000001.png: cannot be used: No such file"):
        next(found)


def test_a_frame_that_does_not_fit_is_named(listed, tmp_path):
    preparer = FreshPreparer(PrepareOptions(fit="none"), (3, 8, 8), "float32")
    with pytest.raises(ModelError, match=r"000000.png: does not fit the model"):
        list(prepared([listed(picture(0))], tmp_path, preparer))
