"""Where a picture stands in a tensor, and the way back for what was found there.

Coordinates are continuous: pixel i covers i to i+1, its centre is at i+0.5. In these coordinates
`cv2.resize` (linear, area and exact nearest; its "half-pixel centres") is a plain scaling, so a
placement is two scales and two offsets: tensor = source * scale + offset.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
import numpy as np

from edgert.frames.result import Array

Anchor = Literal["centre", "top_left"]


class Rect(NamedTuple):
    """A rectangle of whole pixels."""

    x: int
    y: int
    width: int
    height: int


class Placement(msgspec.Struct, frozen=True, gc=False):
    """How a frame's pixels were laid into its tensor."""

    scale_x: float  # tensor px per source px
    scale_y: float
    offset_x: float  # tensor px of the source's left edge; negative where the source was cropped
    offset_y: float
    source_width: int
    source_height: int
    tensor_width: int
    tensor_height: int

    @classmethod
    def of(cls, source: tuple[int, int], tensor: tuple[int, int], part: Rect, place: Rect) -> Placement:
        """Return the placement of `part` of the source at `place` in the tensor; sizes as (width, height)."""
        scale_x, scale_y = place.width / part.width, place.height / part.height
        offsets = place.x - part.x * scale_x, place.y - part.y * scale_y
        return cls(scale_x, scale_y, *offsets, *source, *tensor)

    @classmethod
    def stretch(
        cls, source_width: int, source_height: int, tensor_width: int, tensor_height: int
    ) -> Placement:
        """Return the placement that fills the tensor, each axis by its own scale."""
        source, tensor = (source_width, source_height), (tensor_width, tensor_height)
        return cls.of(source, tensor, Rect(0, 0, *source), Rect(0, 0, *tensor))

    @classmethod
    def letterbox(
        cls,
        source_width: int,
        source_height: int,
        tensor_width: int,
        tensor_height: int,
        anchor: Anchor = "centre",
    ) -> Placement:
        """Return the placement that shows the whole source at one scale; the rest is padding."""
        source, tensor = (source_width, source_height), (tensor_width, tensor_height)
        return cls.of(source, tensor, Rect(0, 0, *source), letterbox_place(source, tensor, anchor))

    @classmethod
    def crop(
        cls, source_width: int, source_height: int, tensor_width: int, tensor_height: int, keep: float = 0.875
    ) -> Placement:
        """Return the placement of the source's centre (see `crop_part`), which fills the tensor."""
        source, tensor = (source_width, source_height), (tensor_width, tensor_height)
        return cls.of(source, tensor, crop_part(source, tensor, keep), Rect(0, 0, *tensor))

    def to_source(self, boxes_xyxy_px: Array) -> Array:
        """Return (n, 4) boxes in tensor px as new float32 boxes in source px, clipped to the source."""
        return self._to_source(boxes_xyxy_px, 2)

    def points_to_source(self, points_xy_px: Array) -> Array:
        """Return (n, k, 2) points in tensor px as new float32 points in source px, clipped to the source."""
        return self._to_source(points_xy_px, 1)

    def to_tensor(self, boxes_xyxy_px: Array) -> Array:
        """Return (n, 4) boxes in source px as new float32 boxes in tensor px, not clipped."""
        scale = np.array((self.scale_x, self.scale_y) * 2)
        offset = np.array((self.offset_x, self.offset_y) * 2)
        return np.asarray(boxes_xyxy_px * scale + offset, np.float32)

    def _to_source(self, coordinates: Array, pairs: int) -> Array:
        """Scale back an array whose last axis is `pairs` times (x, y). In float64: offsets may be large."""
        scale = np.array((self.scale_x, self.scale_y) * pairs)
        offset = np.array((self.offset_x, self.offset_y) * pairs)
        limit = np.array((self.source_width, self.source_height) * pairs)
        source = (coordinates - offset) / scale
        return np.asarray(np.clip(source, 0, limit, out=source), np.float32)


def letterbox_place(source: tuple[int, int], tensor: tuple[int, int], anchor: Anchor = "centre") -> Rect:
    """Return where in a tensor of (width, height) the whole source goes, at least one pixel each way."""
    (source_width, source_height), (width, height) = source, tensor
    if source_width * height >= source_height * width:
        height = max(1, _divide(source_height * width, source_width))
    else:
        width = max(1, _divide(source_width * height, source_height))
    if anchor == "top_left":
        return Rect(0, 0, width, height)
    return Rect((tensor[0] - width) // 2, (tensor[1] - height) // 2, width, height)


def crop_part(source: tuple[int, int], tensor: tuple[int, int], keep: float = 0.875) -> Rect:
    """Return the centre of the source that has the tensor's shape, in whole pixels.

    It is the largest such part times `keep` (0 < keep <= 1). For a square tensor that is `keep` of the
    shorter side, as ImageNet's evaluation has it: 0.875 is "resize to 256, cut out 224".
    """
    (source_width, source_height), (width, height) = source, tensor
    if source_width * height >= source_height * width:
        whole = source_height * width / height, float(source_height)
    else:
        whole = float(source_width), source_width * height / width
    part_width, part_height = (max(1, int(side * keep + 0.5)) for side in whole)
    return Rect((source_width - part_width) // 2, (source_height - part_height) // 2, part_width, part_height)


def _divide(dividend: int, divisor: int) -> int:
    """Return the quotient rounded to the nearest, halves up, exactly."""
    return (2 * dividend + divisor) // (2 * divisor)
