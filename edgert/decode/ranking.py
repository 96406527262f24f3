"""Which entries of an output are worth decoding: the best ones, and the best class of each box."""

from __future__ import annotations

import numpy as np

from edgert.frames.result import Array


def best_first(scores: Array, limit: int) -> Array:
    """Return the indices of the `limit` highest of (n,) scores without NaN, best first, ties in order."""
    kept = np.arange(len(scores))
    if len(scores) > limit:
        least = np.partition(scores, -limit)[-limit]
        kept = np.flatnonzero(scores >= least)
    return kept[np.argsort(-scores[kept], kind="stable")][:limit]


def boxes_with_hits(scores: Array, score_min: float, class_axis: int) -> Array:
    """Return, in order, the boxes of 2-D scores that have one of at least `score_min`; NaN is none."""
    flat = np.flatnonzero(scores.ravel() >= np.float32(score_min))
    per_row = scores.shape[1]
    is_hit = np.zeros(scores.shape[1 - class_axis], bool)
    is_hit[flat // per_row if class_axis == 1 else flat % per_row] = True
    return np.flatnonzero(is_hit)


def best_classes(scores: Array, score_min: float) -> tuple[Array, Array, Array]:
    """Return (rows, class indices, float32 scores) of (n, classes) scores whose best reaches `score_min`.

    Scores that are not finite are ignored.
    """
    scores = np.where(np.isfinite(scores), scores, -np.inf).astype(np.float32, copy=False)
    if scores.size == 0:
        return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
    classes = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), classes]
    rows = np.flatnonzero((best >= np.float32(score_min)) & (best > -np.inf))
    return rows, classes[rows], best[rows]
