"""Pictures into tensors with OpenCV and NumPy, on the lane's thread: the definition of correct.

A frame is recoloured, resized, and mapped to values, in this order, in uint8 up to the last step: a
resized pixel is rounded before mean and scale. From nv12, gray is the Y plane, rgb and bgr are what
`cv2.COLOR_YUV2RGB_NV12` gives (BT.601, limited range). Sampling: see `frames.placement`; `nearest` is
OpenCV's exact one, `area` averages where both sides shrink and is `linear` otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from edgert.errors import FrameError, ModelError
from edgert.frames.frame import image_shape
from edgert.frames.placement import Placement, Rect
from edgert.frames.result import Array
from edgert.prepare.geometry import (
    Size,
    Target,
    bars_around,
    fit_frame,
    item_shape_for,
    read_target,
    sampling,
    tensor_size,
)
from edgert.prepare.options import PrepareOptions
from edgert.prepare.values import PixelValues, calculator, is_uniform, spread

Step = Callable[[Array], Array]  # pixels to pixels

KEPT_PLANS = 32  # source geometries remembered at a time; a plan is views, its memory is shared
_INTERPOLATION = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "nearest": cv2.INTER_NEAREST_EXACT}
_FROM_NV12 = {"rgb": cv2.COLOR_YUV2RGB_NV12, "bgr": cv2.COLOR_YUV2BGR_NV12}
_TO_GRAY = {"rgb8": cv2.COLOR_RGB2GRAY, "bgr8": cv2.COLOR_BGR2GRAY}


def set_threads(count: int) -> None:
    """Set how many threads one OpenCV call may use, in the whole process. Lanes run side by side: 1."""
    cv2.setNumThreads(count)


class Preparer:
    """Writes frames into their places in an input tensor. One for each lane; one thread at a time.

    Once a geometry has been seen, nothing is allocated for a frame but array views (and NumPy's own row
    buffers, 33 kB for a moment, where channels differ in mean or scale).
    """

    def __init__(self, options: PrepareOptions, item_shape: tuple[int, ...], dtype: str) -> None:
        """Take the tensor's shape without the batch axis, -1 for an open side, and NumPy's name of its type.

        Raises:
            ModelError: the options do not fit the tensor.
        """
        self._options = options
        self._target = read_target(options, item_shape)
        self._values = PixelValues(options, self._target.channels, dtype)
        self._scratch = _Scratch()
        self._plans: OrderedDict[tuple[str, tuple[int, ...]], _Plan] = OrderedDict()

    def shape_for(self, pixel_format: str, height: int, width: int) -> tuple[int, ...]:
        """Return the tensor shape of one such frame, without the batch axis. Any thread; never raises."""
        return item_shape_for(self._options, self._target, (width, height))

    def place(self, image: Array, pixel_format: str, item_out: Array) -> Placement:
        """Write a picture (uint8, see `frames.frame`) into its place; return how it stands there.

        `item_out` is contiguous, of the tensor's type and `shape_for` this frame; all of it is written.

        Raises:
            FrameError: the picture has not the shape of its format, or fit is "none" and its size is wrong.
        """
        plan = self._plans.get((pixel_format, image.shape)) or self._add_plan(pixel_format, image.shape)
        self._check_types(plan, image, item_out)
        try:
            plan.write(image, item_out)
        except cv2.error as error:
            raise FrameError(f"OpenCV refuses a {pixel_format} frame {image.shape}: {error}") from error
        return plan.placement

    def _check_types(self, plan: _Plan, image: Array, item_out: Array) -> None:
        """OpenCV quietly writes elsewhere when its destination does not fit, so that is ruled out here."""
        if image.dtype != np.uint8:
            raise FrameError(f"A frame's pixels are {image.dtype}; expected uint8.")
        expected = (self._values.dtype, plan.item_shape)
        if (item_out.dtype, item_out.shape) != expected or not item_out.flags.c_contiguous:
            raise ModelError(
                f"A frame's place is {item_out.dtype} {item_out.shape}; expected {expected}, contiguous."
            )

    def _add_plan(self, pixel_format: str, shape: tuple[int, ...]) -> _Plan:
        source = _source_size(pixel_format, shape)
        tensor = tensor_size(self._options, self._target, source)
        used_bytes = self._scratch.size_bytes
        plan = _Plan(self._options, self._target, self._values, self._scratch, pixel_format, source, tensor)
        if self._scratch.size_bytes != used_bytes:
            self._plans.clear()  # they would keep the old memory alive
        elif len(self._plans) >= KEPT_PLANS:
            self._plans.popitem(last=False)
        self._plans[pixel_format, shape] = plan
        return plan


def _source_size(pixel_format: str, shape: tuple[int, ...]) -> Size:
    """Return (width, height) of a picture held in an array of `shape`. Raises FrameError."""
    if len(shape) not in (2, 3):
        raise FrameError(f"A {pixel_format} frame cannot have the shape {shape}.")
    height = shape[0] * 2 // 3 if pixel_format == "nv12" else shape[0]
    expected = image_shape(pixel_format, height, shape[1])
    if shape != expected:
        raise FrameError(f"A {pixel_format} frame has the shape {shape}; expected {expected}.")
    return shape[1], height


class _Scratch:
    """Memory for the pixels between two steps, shared by all plans: one frame is prepared at a time."""

    def __init__(self) -> None:
        self._areas: dict[str, Array] = {}
        self.size_bytes = 0

    def take(self, stage: str, *shape: int) -> Array:
        """Return a uint8 array over the stage's memory, which grows if it has to."""
        size = int(np.prod(shape))
        held = self._areas[stage].size if stage in self._areas else 0
        if held < size:
            self._areas[stage] = np.empty(size, np.uint8)
            self.size_bytes += size - held
        return self._areas[stage][:size].reshape(shape)


class _Plan:
    """All about one source geometry that need not be worked out again for each frame."""

    def __init__(
        self,
        options: PrepareOptions,
        target: Target,
        values: PixelValues,
        scratch: _Scratch,
        pixel_format: str,
        source: Size,
        tensor: Size,
    ) -> None:
        part, self._place = fit_frame(options, source, tensor)
        self.placement = Placement.of(source, tensor, part, self._place)
        self.item_shape = target.item_shape(tensor)
        self._is_planar = target.is_planar
        self._steps = [
            *_recolour_steps(pixel_format, options.colour, source, part, scratch),
            *_resize_steps(options, part, self._place, _channels(pixel_format, options.colour), scratch),
            *_order_steps(pixel_format, options.colour, target, self._place, scratch),
        ]
        self._fill = _filler(values, target.is_planar)
        self._calculate = calculator(values, tensor[0], target.is_planar)
        pad = np.array([options.pad], values.dtype) if self._calculate else values.pad
        self._bars = [
            (bar, spread(pad, bar.width, target.is_planar)) for bar in bars_around(self._place, tensor)
        ]

    def write(self, image: Array, item_out: Array) -> None:
        """Run the steps, fill the picture's part of the place, then the bars around it."""
        pixels = image
        for step in self._steps:
            pixels = step(pixels)
        self._fill(self._view(item_out, self._place), pixels)
        for bar, value in self._bars:
            self._view(item_out, bar)[...] = value
        if self._calculate:
            self._calculate(item_out)

    def _view(self, item: Array, rect: Rect) -> Array:
        """Return a part of the tensor, (channels, h, w) or, packed, (h, w * channels)."""
        rows, columns = slice(rect.y, rect.y + rect.height), slice(rect.x, rect.x + rect.width)
        return item[:, rows, columns] if self._is_planar else item[rows, columns].reshape(rect.height, -1)


def _channels(pixel_format: str, colour: str) -> int:
    """Return the channels of the pixels between recolouring and ordering."""
    return 1 if colour == "gray" or pixel_format == "gray8" else 3


def _recolour_steps(
    pixel_format: str, colour: str, source: Size, part: Rect, scratch: _Scratch
) -> list[Step]:
    """Cut out the part and make its pixels gray, or coloured in either order."""
    steps: list[Step] = []
    if pixel_format == "nv12" and colour in _FROM_NV12:
        out = scratch.take("recoloured", source[1], source[0], 3)
        steps.append(partial(cv2.cvtColor, code=_FROM_NV12[colour], dst=out))
    rows, columns = slice(part.y, part.y + part.height), slice(part.x, part.x + part.width)
    steps.append(lambda pixels: pixels[rows, columns])  # of nv12 without colour: of its Y plane
    if colour == "gray" and pixel_format in _TO_GRAY:
        out = scratch.take("recoloured", part.height, part.width)
        steps.append(partial(cv2.cvtColor, code=_TO_GRAY[pixel_format], dst=out))
    return steps


def _resize_steps(
    options: PrepareOptions, part: Rect, place: Rect, channels: int, scratch: _Scratch
) -> list[Step]:
    kind = sampling(options, part, place)
    if kind is None:
        return []
    size = (place.width, place.height)
    shape = (place.height, place.width) if channels == 1 else (place.height, place.width, channels)
    out = scratch.take("resized", *shape)
    return [partial(cv2.resize, dsize=size, dst=out, interpolation=_INTERPOLATION[kind])]


def _order_steps(
    pixel_format: str, colour: str, target: Target, place: Rect, scratch: _Scratch
) -> list[Step]:
    """Bring pixels into the tensor's order: (channels, h, w) or, packed, (h, w * channels)."""
    height, width = place.height, place.width
    is_swapped = (pixel_format, colour) in (("bgr8", "rgb"), ("rgb8", "bgr"))
    if target.is_planar:
        if _channels(pixel_format, colour) == 1:
            return [partial(np.broadcast_to, shape=(target.channels, height, width))]
        return [_splitter(scratch.take("ordered", 3, height, width), is_swapped)]
    steps: list[Step] = [lambda pixels: pixels.reshape(height, -1)]
    if is_swapped or _channels(pixel_format, colour) != target.channels:
        out = scratch.take("ordered", height, width, 3)
        code = cv2.COLOR_BGR2RGB if is_swapped else cv2.COLOR_GRAY2RGB
        steps.insert(0, partial(cv2.cvtColor, code=code, dst=out))
    return steps


def _splitter(planes: Array, is_swapped: bool) -> Step:
    in_order = list(planes[::-1] if is_swapped else planes)

    def split(pixels: Array) -> Array:
        cv2.split(pixels, in_order)
        return planes

    return split


def _filler(values: PixelValues, is_planar: bool) -> Callable[[Array, Array], None]:
    """Return what writes pixels into a part of the tensor, as values unless these are calculated after it."""
    if values.is_arithmetic:
        return np.copyto
    table = values.table.view(f"u{values.dtype.itemsize}")  # as whole numbers, which every cv2.LUT takes
    if is_planar:
        return partial(_look_up_planes, table[:, None])
    if is_uniform(table):
        return partial(_look_up, table[:1])
    return partial(_look_up_packed, np.ascontiguousarray(table.T)[None])


def _look_up(table: Array, region: Array, pixels: Array) -> None:
    cv2.LUT(pixels, table, dst=region.view(table.dtype))


def _look_up_planes(tables: Array, region: Array, planes: Array) -> None:
    for table, plane_out, plane in zip(tables, region, planes, strict=True):
        _look_up(table, plane_out, plane)


def _look_up_packed(table: Array, region: Array, pixels: Array) -> None:
    shape = (len(region), -1, table.shape[2])
    _look_up(table, region.reshape(shape), pixels.reshape(shape))
