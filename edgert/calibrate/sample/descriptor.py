"""What a picture looks like from afar, in a few numbers, so that unlike pictures can be told apart."""

from __future__ import annotations

import numpy as np

from edgert.frames.result import Array

CELLS = 16  # luma is averaged over a grid of so many cells on each side
POINTS = 8  # pixels that stand for a cell, on each side of it
DESCRIPTOR_LENGTH = CELLS * CELLS + 3

_BGR_TO_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R BT.601


def describe(image: Array, pixel_format: str) -> Array:
    """Return (DESCRIPTOR_LENGTH,) float32: the grid's luma, then the mean of each channel.

    Pixels count as 0..1. Each of the two parts is scaled so that the distance of two descriptors is at most
    the square root of two: 1 for black against white in luma, 1 in colour. Brightness is not taken out: the
    ranges that calibration measures depend on it.
    """
    luma, channels = _luma_and_channels(image, pixel_format)
    cells = luma.reshape(CELLS, POINTS, CELLS, POINTS).mean(axis=(1, 3), dtype=np.float32)
    parts = cells.ravel() / np.float32(CELLS), channels / np.float32(np.sqrt(3))
    return np.asarray(np.concatenate(parts) / 255, np.float32)


def _luma_and_channels(image: Array, pixel_format: str) -> tuple[Array, Array]:
    """Return luma at the grid's points, and three means. The order of rgb8's channels is bgr8's."""
    if pixel_format == "nv12":
        height = image.shape[0] * 2 // 3
        luma, uv = _points(image[:height]), image[height:]
        means = luma.mean(), uv[:, 0::2].mean(), uv[:, 1::2].mean()
        return luma, np.array(means, np.float32)
    points = _points(image).astype(np.float32)
    if points.ndim == 2:
        return points, np.full(3, points.mean(), np.float32)
    points = points[:, :, ::-1] if pixel_format == "rgb8" else points
    return points @ _BGR_TO_LUMA, points.mean(axis=(0, 1))


def _points(image: Array) -> Array:
    """Return CELLS * POINTS pixels of each side, spread evenly; small pictures give some twice."""
    rows, columns = (
        (np.arange(CELLS * POINTS) * 2 + 1) * side // (2 * CELLS * POINTS) for side in image.shape[:2]
    )
    return np.asarray(image[rows[:, None], columns])
