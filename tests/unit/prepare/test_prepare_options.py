from pathlib import Path

import numpy as np
import pytest

from edgert.config import Document
from edgert.errors import ConfigError, ModelError
from edgert.frames.placement import Rect
from edgert.prepare.convert import Preparer
from edgert.prepare.geometry import bars_around, read_target
from edgert.prepare.options import PrepareOptions
from edgert.prepare.values import PixelValues, spread


def test_reads_from_toml_types():
    tree = {"mean": [1, 2.5, 3], "scale": 1, "size": [300, 200]}
    options = Document(Path("edgert.toml"), tree).as_type(PrepareOptions)
    assert options.mean == (1.0, 2.5, 3.0)
    assert options.size == (300, 200)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"fit": "zoom"}, "fit = 'zoom'"),
        ({"keep": 0}, "keep = 0: expected `float` > 0"),
        ({"pad": 256}, "pad = 256"),
        ({"size": [0, 3]}, r"size\[0\] = 0"),
        ({"mean": []}, r"mean = \[\]"),
        ({"std": 1}, "unknown key 'std'"),
    ],
)
def test_wrong_values_are_named(tree, text):
    with pytest.raises(ConfigError, match=text):
        Document(Path("edgert.toml"), tree).as_type(PrepareOptions)


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "text"),
    [
        ({}, (1, 8, 8), "float32", "'rgb' has 3 channels; .* has 1"),
        ({"colour": "gray"}, (3, 8, 8), "float32", "'gray' has 1 channels; .* has 3"),
        ({}, (8, 8, 3), "float32", "read as nchw, has 8. Mend colour or layout"),
        ({}, (8, 8), "float32", "needs a tensor of channels, height, width"),
        ({}, (3, 0, 8), "float32", "no room"),
        ({}, (3, 8, 8), "int64", "is int64; a picture can be float32"),
        ({"mean": (1.0, 2.0)}, (3, 8, 8), "float32", "mean = .* has 2 numbers, the colour 3 channels"),
        ({"scale": (1.0,)}, (3, 8, 8), "float32", "scale = .* has 1 numbers"),
        ({"mean": float("nan")}, (3, 8, 8), "float32", "expected finite numbers"),
        ({"scale": 1e39}, (3, 8, 8), "float32", "expected finite numbers"),
        ({"scale": 1e38}, (3, 8, 8), "float32", "leaves the range of float32"),
        ({"scale": 1e4}, (3, 8, 8), "float16", "leaves the range of float16"),
        ({}, (3, -1, -1), "float32", 'Set size = .* or fit = "none"'),
        ({}, (3, 8, -1), "float32", r"\[width, height\] is \[-1, 8\], -1 is open"),
        ({"fit": "none"}, (3, 8, -1), "float32", "-1 is open"),
        ({"size": (9, 8)}, (3, 8, 8), "float32", r"size is \[9, 8\], the input tensor's .* is \[8, 8\]"),
    ],
)
def test_options_that_do_not_fit_the_tensor_are_refused(options, shape, dtype, text):
    with pytest.raises(ModelError, match=text):
        Preparer(PrepareOptions(**options), shape, dtype)


def test_open_sides_are_closed_by_size():
    assert read_target(PrepareOptions(size=(6, 5)), (3, -1, 6)).size == (6, 5)
    assert read_target(PrepareOptions(fit="none"), (-1, -1, -1)).size is None


def test_values_of_whole_number_types_are_rounded_and_kept_in_range():
    values = PixelValues(PrepareOptions(mean=128, scale=2, colour="gray"), 1, "int8")
    np.testing.assert_array_equal(values.table[0, [0, 127, 128, 129, 255]], [-128, -2, 0, 2, 127])


@pytest.mark.parametrize("is_planar", [True, False])
def test_spread_broadcasts_per_channel(is_planar):
    spread_values = spread(np.array([1.0, 2.0, 3.0], np.float32), 4, is_planar)
    region = np.zeros((3, 2, 4) if is_planar else (2, 12), np.float32) + spread_values
    by_channel = region if is_planar else region.reshape(2, 4, 3).transpose(2, 0, 1)
    for channel in range(3):
        assert (by_channel[channel] == channel + 1).all()


@pytest.mark.parametrize("place", [Rect(0, 0, 6, 5), Rect(2, 0, 3, 5), Rect(0, 2, 6, 2), Rect(1, 1, 2, 2)])
def test_bars_and_place_cover_the_tensor_once(place):
    cover = np.zeros((5, 6), int)
    for x, y, width, height in [place, *bars_around(place, (6, 5))]:
        cover[y : y + height, x : x + width] += 1
    assert (cover == 1).all()
