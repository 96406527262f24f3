"""What all detectors share: from candidates in a tensor to detections in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from msgspec import Meta

from edgert.config import Options
from edgert.decode.labels import allowed_classes, check_labels
from edgert.decode.nms import suppress
from edgert.decode.ranking import best_first
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Detections

Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class DetectOptions(Options, frozen=True, kw_only=True):
    """Which boxes become detections."""

    score_min: Fraction = 0.5
    iou_max: Fraction = 0.5  # two boxes of a class that overlap more are one; the better one stays
    classes: tuple[str, ...] = ()  # only these labels; empty: all
    max_candidates: Count = 1000  # the best boxes, before overlapping ones are removed
    max_detections: Count = 100


class Finisher:
    """Chooses among candidates and brings them into source pixels."""

    def __init__(self, options: DetectOptions, labels: Sequence[str], class_count: int) -> None:
        """Raises ModelError if labels, `classes` and the output's class count (-1: unknown) do not fit."""
        check_labels(labels, class_count)
        self._options = options
        self._labels = labels
        self._allowed = allowed_classes(options.classes, labels, class_count)

    def finish(
        self,
        boxes_xyxy_px: Array,
        scores: Array,
        classes: Array,
        placement: Placement,
        *,
        landmarks_xy_px: Array | None = None,
        overlap: bool = False,
    ) -> Detections:
        """Return detections of (n, 4) float32 boxes in tensor px; `overlap` leaves overlapping ones.

        Boxes that are not finite, are empty, or lie outside the source are dropped; scores must be finite.
        Landmarks are (n, points, 2) in tensor px.
        """
        kept = self._candidates(boxes_xyxy_px, scores, classes)
        if not overlap and len(kept) > 1:
            stay = suppress(
                boxes_xyxy_px[kept], scores[kept], classes[kept], self._options.iou_max, len(kept)
            )
            kept = kept[stay]
        boxes = placement.to_source(boxes_xyxy_px[kept])
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        kept = kept[inside][: self._options.max_detections]
        boxes = boxes[inside][: self._options.max_detections]
        points = None if landmarks_xy_px is None else placement.points_to_source(landmarks_xy_px[kept])
        return Detections(boxes, scores[kept], classes[kept], self._labels, points)

    def _candidates(self, boxes: Array, scores: Array, classes: Array) -> Array:
        """Return the indices of the best boxes that have a size and an allowed class, best first."""
        with np.errstate(over="ignore", invalid="ignore"):
            size = boxes[:, 2:] - boxes[:, :2]
        is_good = ((size > 0) & (size < np.inf)).all(axis=1)
        if self._allowed is not None:
            is_good &= self._allowed[classes]
        good = np.flatnonzero(is_good)
        return good[best_first(scores[good], self._options.max_candidates)]


def corners(centres_and_sizes: Array) -> Array:
    """Return (n, 4) boxes as x1 y1 x2 y2, from centre x, centre y, width, height."""
    centre, half = centres_and_sizes[:, :2], centres_and_sizes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)
