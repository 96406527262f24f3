"""Preparation as plainly as it can be written: one output pixel at a time, in float64, nothing shared."""

import math

import numpy as np

from edgert.frames.placement import Placement
from edgert.prepare.options import PrepareOptions


def recolour(image: np.ndarray, pixel_format: str, colour: str) -> np.ndarray:
    """Return (h, w, channels) float64, 0..255, in the order of `colour`."""
    if pixel_format == "nv12":
        return _from_nv12(image, colour)
    if pixel_format == "gray8":
        return np.repeat(image[:, :, None].astype(float), 1 if colour == "gray" else 3, axis=2)
    rgb = image.astype(float) if pixel_format == "rgb8" else image[:, :, ::-1].astype(float)
    if colour == "gray":
        return (rgb @ (0.299, 0.587, 0.114))[:, :, None]
    return rgb if colour == "rgb" else rgb[:, :, ::-1]


def _from_nv12(image: np.ndarray, colour: str) -> np.ndarray:
    height, width = image.shape[0] * 2 // 3, image.shape[1]
    luma = image[:height].astype(float)
    if colour == "gray":
        return luma[:, :, None]
    chroma = image[height:].reshape(height // 2, width // 2, 2).astype(float) - 128
    u, v = np.moveaxis(chroma.repeat(2, axis=0).repeat(2, axis=1), 2, 0)
    y = 1.164 * np.maximum(luma - 16, 0)  # BT.601, limited range
    rgb = np.stack([y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u], axis=2).clip(0, 255)
    return rgb if colour == "rgb" else rgb[:, :, ::-1]


def sample(
    pixels: np.ndarray, placement: Placement, part: tuple[float, ...], x: int, y: int, kind: str
) -> np.ndarray:
    """Return the value of the tensor pixel (x, y), which lies in the picture. `part` is x1 y1 x2 y2."""
    inverse_x, inverse_y = 1 / placement.scale_x, 1 / placement.scale_y
    left, top = (x - placement.offset_x) * inverse_x, (y - placement.offset_y) * inverse_y
    if kind == "area" and inverse_x >= 1 and inverse_y >= 1:
        weights_x, weights_y = (
            _overlaps(left, inverse_x, part[0], part[2]),
            _overlaps(top, inverse_y, part[1], part[3]),
        )
    else:
        centre_x, centre_y = left + inverse_x / 2, top + inverse_y / 2
        weights_x, weights_y = _linear(centre_x, part[0], part[2]), _linear(centre_y, part[1], part[3])
    return sum(wx * wy * pixels[j, i] for i, wx in weights_x for j, wy in weights_y)


def _overlaps(start: float, length: float, low: float, high: float) -> list[tuple[int, float]]:
    whole = range(max(int(low), math.floor(start)), min(int(high), math.ceil(start + length)))
    parts = [(i, min(i + 1, start + length) - max(i, start)) for i in whole]
    total = sum(part for _, part in parts)
    return [(i, part / total) for i, part in parts]


def _linear(centre: float, low: float, high: float) -> list[tuple[int, float]]:
    first = math.floor(centre - 0.5)
    weight = centre - 0.5 - first
    clamp = (int(low), int(high) - 1)
    return [(min(max(i, clamp[0]), clamp[1]), w) for i, w in ((first, 1 - weight), (first + 1, weight))]


def levels(
    image: np.ndarray, pixel_format: str, options: PrepareOptions, placement: Placement, part: tuple[int, ...]
) -> np.ndarray:
    """Return the tensor before mean and scale: (height, width, channels), pixels 0..255 in float64."""
    pixels = recolour(image, pixel_format, options.colour)
    size = (placement.tensor_height, placement.tensor_width, pixels.shape[2])
    out = np.full(size, float(options.pad))
    for y in range(size[0]):
        for x in range(size[1]):
            centre_x = (x + 0.5 - placement.offset_x) / placement.scale_x
            centre_y = (y + 0.5 - placement.offset_y) / placement.scale_y
            if part[0] < centre_x < part[2] and part[1] < centre_y < part[3]:
                out[y, x] = sample(pixels, placement, part, x, y, options.interpolation)
    return out


def values(levels_hwc: np.ndarray, options: PrepareOptions, dtype: str) -> np.ndarray:
    """Return (pixel - mean) * scale in float32, then as `dtype`, in the layout of the options."""
    mean, scale = np.array(options.mean, np.float32), np.array(options.scale, np.float32)
    result = (levels_hwc.astype(np.float32) - mean) * scale
    if dtype in ("uint8", "int8"):
        limits = np.iinfo(dtype)
        result = np.rint(result).clip(limits.min, limits.max)
    result = result.astype(dtype)
    return result if options.layout == "nhwc" else result.transpose(2, 0, 1)
