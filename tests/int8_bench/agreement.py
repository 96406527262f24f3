"""How near a quantized model's outputs come to FP32's. Written apart from edgert's own comparison."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgert.frames.result import Array, Detections


class Matches(NamedTuple):
    """Detections of one picture, or of many, set beside FP32's."""

    reference: int = 0
    found: int = 0
    matched: int = 0
    score_error: float = 0.0  # sum of |difference| over the matched

    def plus(self, other: Matches) -> Matches:
        """Return both together."""
        return Matches(*(one + another for one, another in zip(self, other, strict=True)))

    def figures(self) -> dict[str, float]:
        """Return recall and precision against FP32, and the mean error of the scores; 1, 1, 0 of nothing."""
        return {
            "recall": self.matched / self.reference if self.reference else 1.0,
            "precision": self.matched / self.found if self.found else 1.0,
            "score_error": self.score_error / self.matched if self.matched else 0.0,
            "reference": self.reference,
            "found": self.found,
        }


def same_top1(reference: Array, logits: Array) -> int:
    """Return how many rows of (n, classes) have their greatest value in the same place."""
    return int((reference.argmax(axis=1) == logits.argmax(axis=1)).sum())


def cosines(reference: Array, logits: Array) -> Array:
    """Return the cosine between each pair of rows, (n,); 0 where a row is all zero."""
    one, other = reference.astype(np.float64), logits.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))


def match_detections(reference: Detections, found: Detections, iou_min: float = 0.5) -> Matches:
    """Pair each of FP32's detections, best score first, with the best overlapping one of its class left."""
    overlap = iou(reference.boxes_xyxy_px, found.boxes_xyxy_px)
    overlap[reference.class_indices[:, None] != found.class_indices[None, :]] = 0.0
    matched, error = 0, 0.0
    for index in np.argsort(-reference.scores, kind="stable"):
        best = int(overlap[index].argmax()) if overlap.shape[1] else -1
        if best >= 0 and overlap[index, best] >= iou_min:
            matched += 1
            error += abs(float(reference.scores[index]) - float(found.scores[best]))
            overlap[:, best] = 0.0
    return Matches(len(reference.scores), len(found.scores), matched, error)


def iou(ones: Array, others: Array) -> Array:
    """Return intersection over union of (n, 4) and (m, 4) boxes, (n, m)."""
    a, b = ones.astype(np.float64)[:, None], others.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(axis=2)
    areas = (a[..., 2:] - a[..., :2]).prod(axis=2) + (b[..., 2:] - b[..., :2]).prod(axis=2)
    return np.asarray(common / np.maximum(areas - common, 1e-12))
