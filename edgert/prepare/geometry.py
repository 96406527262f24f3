"""What an input tensor expects of a picture, and which part of a frame goes where in it."""

from __future__ import annotations

from typing import Literal

import msgspec

from edgert.errors import FrameError, ModelError
from edgert.frames.placement import Rect, crop_part, letterbox_place
from edgert.prepare.options import PrepareOptions

Size = tuple[int, int]  # width, height
CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}


class Target(msgspec.Struct, frozen=True):
    """The tensor of one frame. `size` is None where each frame keeps its own."""

    is_planar: bool  # nchw
    channels: int
    size: Size | None

    def item_shape(self, size: Size) -> tuple[int, int, int]:
        """Return the tensor's shape, without the batch axis, for a picture of `size`."""
        width, height = size
        return (self.channels, height, width) if self.is_planar else (height, width, self.channels)


def read_target(options: PrepareOptions, item_shape: tuple[int, ...]) -> Target:
    """Return what the tensor of `item_shape` (no batch axis, -1 is open) expects. Raises ModelError."""
    if len(item_shape) != 3:
        axes = "channels, height, width" if options.layout == "nchw" else "height, width, channels"
        raise ModelError(f"A picture needs a tensor of {axes}; without its batch axis it is {item_shape}.")
    if 0 in item_shape:
        raise ModelError(f"The input tensor {item_shape} has no room for a picture.")
    is_planar = options.layout == "nchw"
    channels, height, width = item_shape if is_planar else (item_shape[2], *item_shape[:2])
    expected = CHANNELS[options.colour]
    if channels not in (expected, -1):
        raise ModelError(
            f"colour {options.colour!r} has {expected} channels; the input tensor {item_shape}, read as "
            f"{options.layout}, has {channels}. Mend colour or layout in [prepare]."
        )
    return Target(is_planar, expected, _read_size(options, (width, height)))


def _read_size(options: PrepareOptions, size: Size) -> Size | None:
    wanted = options.size or size
    if any(side not in (want, -1) for side, want in zip(size, wanted, strict=True)):
        raise ModelError(f"size is {list(wanted)}, the input tensor's [width, height] is {list(size)}.")
    if -1 not in wanted:
        return wanted
    if options.fit == "none" and wanted == (-1, -1):
        return None
    raise ModelError(
        f"The input tensor's [width, height] is {list(size)}, -1 is open. Set size = [width, height] in "
        f"[prepare]" + (', or fit = "none".' if wanted == (-1, -1) else ".")
    )


def fit_frame(options: PrepareOptions, source: Size, tensor: Size) -> tuple[Rect, Rect]:
    """Return which part of a source goes where in the tensor."""
    whole_source, whole_tensor = Rect(0, 0, *source), Rect(0, 0, *tensor)
    if options.fit == "letterbox":
        return whole_source, letterbox_place(source, tensor, options.anchor)
    if options.fit == "crop":
        return crop_part(source, tensor, options.keep), whole_tensor
    return whole_source, whole_tensor


def item_shape_for(options: PrepareOptions, target: Target, source: Size) -> tuple[int, int, int]:
    """Return the tensor shape of a frame of `source`, without the batch axis.

    With fit "none" it is the frame's own size even where the tensor has another: such a frame
    shares a batch with no good one, and `tensor_size` refuses it.
    """
    size = source if target.size is None or options.fit == "none" else target.size
    return target.item_shape(size)


def tensor_size(options: PrepareOptions, target: Target, source: Size) -> Size:
    """Return the tensor's size for a frame of `source`. Raises FrameError if it must fit and does not."""
    size = target.size or source
    if options.fit == "none" and size != source:
        frame_size, model_size = f"{source[0]}x{source[1]}", f"{size[0]}x{size[1]}"
        raise FrameError(f"The frame is {frame_size}; the model takes {model_size} and fit is 'none'.")
    return size


def sampling(options: PrepareOptions, part: Rect, place: Rect) -> Literal["linear", "area", "nearest"] | None:
    """Return how `part` becomes `place`: None if it stays as it is.

    OpenCV's area is neither linear nor an average where a side is enlarged, so that is linear.
    """
    if (place.width, place.height) == (part.width, part.height):
        return None
    enlarges = place.width > part.width or place.height > part.height
    return "linear" if options.interpolation == "area" and enlarges else options.interpolation


def bars_around(place: Rect, tensor: Size) -> list[Rect]:
    """Return the parts of the tensor beside `place`, without overlap."""
    (width, height), right, bottom = tensor, place.x + place.width, place.y + place.height
    bars = (
        Rect(0, 0, width, place.y),
        Rect(0, bottom, width, height - bottom),
        Rect(0, place.y, place.x, place.height),
        Rect(right, place.y, width - right, place.height),
    )
    return [bar for bar in bars if bar.width and bar.height]
