"""Preparation for the no-op engine: nothing is written, every frame fits."""

from __future__ import annotations

from edgert.frames.placement import Placement
from edgert.frames.result import Array


class SkipPreparer:
    """Has the shape of `convert.Preparer` and leaves the tensor as it is."""

    def __init__(self, item_shape: tuple[int, ...]) -> None:
        self._item_shape = item_shape

    def shape_for(self, pixel_format: str, height: int, width: int) -> tuple[int, ...]:
        """Return the one shape there is."""
        return self._item_shape

    def place(self, image: Array, pixel_format: str, item_out: Array) -> Placement:
        """Return the placement of a tensor as large as the image."""
        height, width = image.shape[:2]
        return Placement.stretch(width, height, width, height)
