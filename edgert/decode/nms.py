"""Greedy, class-aware non-maximum suppression in NumPy."""

from __future__ import annotations

import numpy as np

from edgert.decode.ranking import best_first
from edgert.frames.result import Array

BLOCK = 128  # boxes compared at once: bounds the table of overlaps to 16,384 entries


def suppress(boxes_xyxy_px: Array, scores: Array, classes: Array, iou_max: float, limit: int) -> Array:
    """Return the indices of the boxes that stay, best score first, at most `limit`.

    From the best on, a box stays unless one of its class that stays overlaps it with an intersection over
    union above `iou_max`. (n, 4) finite float32 boxes, (n,) scores; equal scores go in order of index.
    """
    order = best_first(scores, len(scores))
    sides = np.ascontiguousarray(boxes_xyxy_px[order].T)
    classes = classes[order]
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(order)))
        if start:
            block = block[~_overlaps(sides, classes, kept, block, iou_max).any(axis=0)]
        kept = np.concatenate([kept, block[_greedy(_overlaps(sides, classes, block, block, iou_max))]])
        if len(kept) >= limit:
            break
    return order[kept[:limit]]


def _overlaps(sides: Array, classes: Array, ones: Array, others: Array, iou_max: float) -> Array:
    """Return (ones, others) booleans: same class, and intersection > iou_max * union.

    Sides are (4, n): x1 y1 x2 y2. Tables are reused in place, since making them is most of the work.
    """
    a, b = sides[:, ones, None], sides[:, None, others]
    with np.errstate(over="ignore", invalid="ignore"):
        intersection = _common(a[0], a[2], b[0], b[2])
        intersection *= _common(a[1], a[3], b[1], b[3])
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        union -= intersection
        union *= np.float32(iou_max)
        is_over: Array = intersection > union
    is_over &= classes[ones, None] == classes[others]
    return is_over


def _common(first: Array, last: Array, other_first: Array, other_last: Array) -> Array:
    """Return the length that two intervals share, 0 if none."""
    length: Array = np.minimum(last, other_last)
    length -= np.maximum(first, other_first)
    return np.maximum(length, 0, out=length)


def _greedy(overlaps: Array) -> Array:
    """Return which boxes stay, given (n, n) overlaps of boxes in order of score."""
    stays = np.ones(len(overlaps), bool)
    for index in np.flatnonzero(np.triu(overlaps, 1).any(axis=1)):
        if stays[index]:
            stays[index + 1 :] &= ~overlaps[index, index + 1 :]
    return stays
