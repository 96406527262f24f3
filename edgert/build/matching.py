"""Detections of two engines against each other."""

from __future__ import annotations

import numpy as np

from edgert.frames.result import Array, Detections

IOU_MIN = 0.9  # of two boxes that are the same


class DetectionMatch:
    """Counts detections that both sides have, over many pictures.

    One that only one side has does not count below `sure_score`: there the threshold decides, not the engine.
    """

    def __init__(self, sure_score: float) -> None:
        self._sure_score = sure_score
        self._matched = 0
        self._alone = 0
        self.score_difference = 0.0  # the largest, of those that both have

    @property
    def compared(self) -> int:
        """Detections that were counted, on either side."""
        return self._matched + self._alone

    @property
    def share(self) -> float:
        """Which part of them both sides have; 1 if there were none."""
        return self._matched / self.compared if self.compared else 1.0

    def add(self, old: Detections, new: Detections) -> None:
        """Match one picture's detections, the best first; classes have to be the same."""
        pairs = match_detections(old, new)
        self._matched += len(pairs)
        for index, other in pairs:
            difference = abs(float(old.scores[index]) - float(new.scores[other]))
            self.score_difference = max(self.score_difference, difference)
        for side, matched in ((old, {a for a, _ in pairs}), (new, {b for _, b in pairs})):
            alone = [score for index, score in enumerate(side.scores) if index not in matched]
            self._alone += sum(float(score) >= self._sure_score for score in alone)


def match_detections(old: Detections, new: Detections) -> list[tuple[int, int]]:
    """Return pairs of indices: each old box, in order, with the free new one of its class that is nearest."""
    overlaps = _overlaps(old.boxes_xyxy_px, new.boxes_xyxy_px)
    overlaps[old.class_indices[:, None] != new.class_indices[None, :]] = 0.0
    pairs = []
    for index in range(len(overlaps)):
        if overlaps.shape[1] == 0:
            break
        best = int(overlaps[index].argmax())
        if overlaps[index, best] > IOU_MIN:
            pairs.append((index, best))
            overlaps[:, best] = 0.0
    return pairs


def _overlaps(ones: Array, others: Array) -> Array:
    """Return (ones, others) intersections over unions of (n, 4) boxes x1 y1 x2 y2."""
    a, b = ones.astype(np.float64)[:, None, :], others.astype(np.float64)[None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(sides, 0.0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (a, b)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))
