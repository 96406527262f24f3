"""What two models say of the same frame, against each other: boxes by their overlap, tensors by direction."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from edgert.frames.result import Array, Detections

_TAKEN = -1.0  # below every overlap


class TensorMatch(msgspec.Struct, frozen=True):
    """One tensor against its reference."""

    cosine: float  # 1: the same direction; 0 where values are not finite
    relative_error: float  # the largest difference by the largest reference value


def detections_at(detections: Detections, indices: Array) -> Detections:
    """Return some of the detections, without their landmarks. Copies."""
    return Detections(
        detections.boxes_xyxy_px[indices],
        detections.scores[indices],
        detections.class_indices[indices],
        detections.labels,
    )


def match_detections(ones: Detections, others: Detections, iou_min: float) -> list[tuple[int, int]]:
    """Return pairs of indices: each of `ones`, in order, with the free one of its class that overlaps most.

    A pair's intersection over union is `iou_min` or more.
    """
    overlaps = overlaps_of(ones.boxes_xyxy_px, others.boxes_xyxy_px)
    overlaps[ones.class_indices[:, None] != others.class_indices[None, :]] = _TAKEN
    pairs = []
    for index in range(len(overlaps) if overlaps.shape[1] else 0):
        best = int(overlaps[index].argmax())
        if overlaps[index, best] >= max(iou_min, 0.0):
            pairs.append((index, best))
            overlaps[:, best] = _TAKEN
    return pairs


def overlaps_of(ones: Array, others: Array) -> Array:
    """Return (ones, others) intersections over unions of (n, 4) boxes x1 y1 x2 y2; 0 if not finite."""
    common, areas, other_areas = common_areas(ones, others)
    with np.errstate(invalid="ignore", over="ignore"):
        overlaps = common / np.maximum(areas[:, None] + other_areas[None, :] - common, 1e-12)
    return np.where(np.isfinite(overlaps), overlaps, 0.0)


def common_areas(ones: Array, others: Array) -> tuple[Array, Array, Array]:
    """Return the (ones, others) areas that boxes share, and the areas of either, float64."""
    a, b = ones.astype(np.float64)[:, None, :], others.astype(np.float64)[None, :, :]
    with np.errstate(invalid="ignore", over="ignore"):
        sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
        common = np.maximum(sides, 0.0).prod(axis=-1)
        areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1).ravel() for box in (a, b)]
    return common, areas[0], areas[1]


def match_tensors(reference: Array, value: Array) -> TensorMatch:
    """Compare two tensors of one shape, in float64."""
    if np.array_equal(reference, value, equal_nan=True):
        return TensorMatch(1.0, 0.0)
    old, new = (array.astype(np.float64).ravel() for array in (reference, value))
    if not np.isfinite(old).all() or not np.isfinite(new).all():
        return TensorMatch(0.0, float("inf"))
    largest = float(np.abs(old).max(initial=0.0))
    difference = float(np.abs(old - new).max(initial=0.0))
    return TensorMatch(_cosine(old, new), difference / largest if largest else difference)


def _cosine(old: Array, new: Array) -> float:
    """Return 0 if either has no direction."""
    lengths = [math.sqrt(_product(array, array)) for array in (old, new)]
    return min(_product(old / lengths[0], new / lengths[1]), 1.0) if all(lengths) else 0.0


def _product(one: Array, other: Array) -> float:
    """Return the inner product; BLAS would start threads that then spin beside those of the engines."""
    return float(np.einsum("i,i->", one, other))
