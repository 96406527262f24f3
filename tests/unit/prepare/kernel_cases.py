"""Frames for the kernel, and how near it must come to what `convert.Preparer` makes of them."""

from __future__ import annotations

import platform
from typing import NamedTuple

import numpy as np

from edgert.frames.frame import image_shape
from edgert.frames.placement import Placement
from edgert.prepare.convert import Preparer
from edgert.prepare.geometry import CHANNELS
from edgert.prepare.options import PrepareOptions

# In grey levels. Other builds of OpenCV may sample linearly with other whole numbers.
LEVELS = {"linear": 0 if platform.machine() == "x86_64" else 1, "area": 1, "nearest": 0}


class Case(NamedTuple):
    options: PrepareOptions
    pixel_format: str
    source: tuple[int, int]  # height, width
    tensor: tuple[int, int]
    dtype: str = "uint8"

    @property
    def item_shape(self) -> tuple[int, ...]:
        channels = CHANNELS[self.options.colour]
        return (channels, *self.tensor) if self.options.layout == "nchw" else (*self.tensor, channels)

    def picture(self) -> np.ndarray:
        shape = image_shape(self.pixel_format, *self.source)
        return np.random.default_rng(5).integers(0, 256, shape, np.uint8)

    def reference(self, picture: np.ndarray) -> tuple[np.ndarray, Placement]:
        """Return what OpenCV makes of it."""
        preparer = Preparer(self.options, self.item_shape, self.dtype)
        item = np.full(preparer.shape_for(self.pixel_format, *self.source), 77, self.dtype)
        return item, preparer.place(picture, self.pixel_format, item)

    def check(self, expected: np.ndarray, item: np.ndarray, placement: Placement) -> None:
        """Fail if an item differs from the reference by more than `edgert.prepare.kernels` says."""
        sure = self._sure(placement) if self.options.interpolation == "nearest" else (...,)
        levels, scale = LEVELS[self.options.interpolation], np.max(np.abs(self.options.scale))
        rounding = 1.0 if self.dtype in ("uint8", "int8") and scale != 1 else 1e-3 * scale
        np.testing.assert_allclose(
            item[sure].astype(np.float64),
            expected[sure].astype(np.float64),
            rtol=1e-3 if levels else 0,  # of float16
            atol=levels * scale + rounding if levels else 0,
        )

    def _sure(self, placement: Placement) -> tuple[slice | np.ndarray, ...]:
        """Return an index of the values whose centre is not at the border of two source pixels."""
        rows = _sure_side(self.tensor[0], placement.offset_y, placement.scale_y, self.source[0])
        columns = _sure_side(self.tensor[1], placement.offset_x, placement.scale_x, self.source[1])
        both = rows[:, None] & columns[None, :]
        return (slice(None), both) if self.options.layout == "nchw" else (both,)


def _sure_side(tensor: int, offset: float, scale: float, source: int) -> np.ndarray:
    centres = (np.arange(tensor) + 0.5 - offset) / scale
    return (np.abs(centres - np.rint(centres)) > 0.02) | (centres < 0) | (centres > source)


def even(side: int, pixel_format: str) -> int:
    """Return a side that a picture of the format may have."""
    return side + side % 2 if pixel_format == "nv12" else side
