"""One picture at a time into a tensor of its own, exactly as the service prepares it for a lane."""

from __future__ import annotations

import numpy as np

from edgert.frames.placement import Placement
from edgert.frames.result import Array
from edgert.prepare.convert import Preparer
from edgert.prepare.options import PrepareOptions


class FreshPreparer:
    """A `convert.Preparer` that makes its own tensors. For one thread at a time."""

    def __init__(self, options: PrepareOptions, item_shape: tuple[int, ...], dtype: str) -> None:
        """Take what `convert.Preparer` takes. Raises ModelError if the options do not fit the tensor."""
        self._preparer = Preparer(options, item_shape, dtype)
        self._dtype = dtype

    def prepare(self, image: Array, pixel_format: str = "bgr8") -> tuple[Array, Placement]:
        """Return a new tensor without a batch axis, and how the picture stands in it. Raises FrameError."""
        height = image.shape[0] * 2 // 3 if pixel_format == "nv12" else image.shape[0]
        tensor = np.empty(self._preparer.shape_for(pixel_format, height, image.shape[1]), self._dtype)
        return tensor, self._preparer.place(image, pixel_format, tensor)
