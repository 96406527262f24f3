"""From a pixel to a tensor's value: (pixel - mean) * scale in float32, then in the tensor's type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgert.errors import ModelError
from edgert.frames.result import Array
from edgert.prepare.options import PrepareOptions

DTYPES = ("float32", "float16", "uint8", "int8")


class PixelValues:
    """The value of each of the 256 pixels in each channel, and the two numbers that it comes from."""

    def __init__(self, options: PrepareOptions, channels: int, dtype: str) -> None:
        """Raises ModelError if the options do not fit the channels or the type."""
        if dtype not in DTYPES:
            raise ModelError(f"The input tensor is {dtype}; a picture can be {', '.join(DTYPES)}.")
        self.dtype = np.dtype(dtype)
        self.mean = _per_channel("mean", options.mean, channels)
        self.scale = _per_channel("scale", options.scale, channels)
        self.table = _table(self.mean, self.scale, self.dtype)  # (channels, 256)
        self.pad = self.table[:, options.pad]  # (channels,)
        self.subtracts = bool(self.mean.any())
        self.multiplies = bool((self.scale != 1).any())

    @property
    def is_arithmetic(self) -> bool:
        """Two passes of arithmetic give the values; measured, they take half the time of looking them up."""
        is_plain = not self.subtracts and not self.multiplies
        return self.dtype == np.float32 or (self.dtype == np.uint8 and is_plain)


def calculator(values: PixelValues, width: int, is_planar: bool) -> Callable[[Array], None] | None:
    """Return what turns a tensor full of pixels into values, in place; None if they are values already.

    It takes the padding along: where memory is contiguous, NumPy is three times faster and needs no buffers.
    """
    if not values.is_arithmetic or not (values.subtracts or values.multiplies):
        return None
    mean = spread(values.mean, width, is_planar) if values.subtracts else None
    scale = spread(values.scale, width, is_planar) if values.multiplies else None

    def calculate(item: Array) -> None:
        rows = item if is_planar else item.reshape(len(item), -1)
        if mean is not None:
            np.subtract(rows, mean, out=rows)
        if scale is not None:
            np.multiply(rows, scale, out=rows)

    return calculate


def spread(values: Array, width: int, is_planar: bool) -> Array:
    """Shape per-channel values to broadcast over (channels, h, w) or, packed, over (h, w * channels)."""
    if is_uniform(values):
        return values[:1].reshape(())
    return values[:, None, None] if is_planar else np.tile(values, width)


def is_uniform(values: Array) -> bool:
    """Say whether all channels (the first axis) have the same values."""
    return bool((values == values[0]).all())


def _per_channel(name: str, value: float | tuple[float, ...], channels: int) -> Array:
    values = value if isinstance(value, tuple) else (value,) * channels
    if len(values) != channels:
        raise ModelError(
            f"{name} = {list(values)} has {len(values)} numbers, the colour {channels} channels."
        )
    with np.errstate(over="ignore"):
        numbers = np.array(values, np.float32)
    if not np.isfinite(numbers).all():
        raise ModelError(f"{name} = {list(values)}: expected finite numbers.")
    return numbers


def _table(mean: Array, scale: Array, dtype: np.dtype[Any]) -> Array:
    """Return the values, (channels, 256); for whole-number types rounded and kept in range."""
    pixels = np.arange(256, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values = (pixels - mean[:, None]) * scale[:, None]
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        table = values.astype(dtype)
    if not np.isfinite(table).all():
        raise ModelError(f"(pixel - mean) * scale leaves the range of {dtype}; mend mean or scale.")
    return table
