"""Greedy, class-aware non-maximum suppression in NumPy."""

from __future__ import annotations

import numpy as np

from edgert.decode.ranking import best_first
from edgert.frames.result import Array

BLOCK = 128  # boxes compared at once: bounds the table of overlaps to 16,384 entries


def suppress(boxes_xyxy_px: Array, scores: Array, classes: Array, iou_max: float, limit: int) -> Array:
    """Return the indices of the boxes that stay, best score first, at most `limit`.

    From the best on, a box stays unless one of its class that stays overlaps it with an intersection over
    union above `iou_max`. (n, 4) float32 finite boxes, (n,) scores; equal scores go in order of index.
    """
    order = best_first(scores, len(scores))
    kept = order[:0]
    for start in range(0, len(order), BLOCK):
        block = order[start : start + BLOCK]
        if len(kept):
            block = block[~_overlaps(boxes_xyxy_px, classes, kept, block, iou_max).any(axis=0)]
        kept = np.concatenate([kept, block[_greedy(_overlaps(boxes_xyxy_px, classes, block, block, iou_max))]])
        if len(kept) >= limit:
            break
    return kept[:limit]


def _overlaps(boxes: Array, classes: Array, ones: Array, others: Array, iou_max: float) -> Array:
    """Return (ones, others) booleans: same class, and intersection > iou_max * union."""
    a, b = boxes[ones][:, None], boxes[others][None]
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    np.maximum(size, 0, out=size)
    intersection = size[..., 0] * size[..., 1]
    union = _area(a) + _area(b) - intersection
    over: Array = intersection > np.float32(iou_max) * union
    return over & (classes[ones][:, None] == classes[others][None])


def _area(boxes: Array) -> Array:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _greedy(overlaps: Array) -> Array:
    """Return which boxes stay, given (n, n) overlaps of boxes in order of score."""
    stays = np.ones(len(overlaps), bool)
    for index in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if stays[index]:
            stays[index + 1 :] &= ~overlaps[index, index + 1 :]
    return stays
