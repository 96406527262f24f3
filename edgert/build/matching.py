"""Detections of two engines against each other."""

from __future__ import annotations

from edgert.frames.matching import match_detections
from edgert.frames.result import Detections

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
        pairs = match_detections(old, new, IOU_MIN)
        self._matched += len(pairs)
        for index, other in pairs:
            difference = abs(float(old.scores[index]) - float(new.scores[other]))
            self.score_difference = max(self.score_difference, difference)
        for side, matched in ((old, {a for a, _ in pairs}), (new, {b for _, b in pairs})):
            alone = [score for index, score in enumerate(side.scores) if index not in matched]
            self._alone += sum(float(score) >= self._sure_score for score in alone)
