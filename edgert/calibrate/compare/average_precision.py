"""Mean average precision of detections against ground truth, as COCO's evaluation defines it.

All areas, at most 100 detections of a class in a frame, 101 points of recall (cocodataset.org, Detection
evaluation). Its decoder should leave out no detection that scores above some hundredths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from edgert.calibrate.compare.labels import TrueBoxes
from edgert.frames.matching import common_areas
from edgert.frames.result import Array, Detections, label_of

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100


class ClassPrecision(msgspec.Struct, frozen=True, kw_only=True):
    """One class that is in the ground truth."""

    label: str
    objects: int
    ap_50: float
    ap: float


class PrecisionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the classes that are in the ground truth, 0..1; None: none is."""

    frames: int
    map_50: float | None  # IoU 0.5
    map: float | None  # IoU 0.5 to 0.95
    classes: tuple[ClassPrecision, ...]


class MeanAveragePrecision:
    """Collects one model's detections in frames with ground truth: some bytes for each detection."""

    def __init__(self) -> None:
        self._frames = 0
        self._labels: Sequence[str] = ()
        self._objects: dict[int, int] = defaultdict(int)
        self._rows: dict[int, list[tuple[Array, Array, Array]]] = defaultdict(list)

    def add(self, detections: Detections, truth: TrueBoxes) -> None:
        """Match one frame's detections, class by class."""
        self._frames += 1
        self._labels = detections.labels
        for class_index in {*detections.class_indices.tolist(), *truth.class_indices.tolist()}:
            order = np.flatnonzero(detections.class_indices == class_index)
            order = order[np.argsort(-detections.scores[order], kind="stable")][:MAX_DETECTIONS]
            wanted = np.flatnonzero(truth.class_indices == class_index)
            wanted = wanted[np.argsort(truth.is_crowd[wanted], kind="stable")]
            is_crowd = truth.is_crowd[wanted]
            overlaps = _overlaps(detections.boxes_xyxy_px[order], truth.boxes_xyxy_px[wanted], is_crowd)
            self._objects[class_index] += int((~is_crowd).sum())
            self._rows[class_index].append((detections.scores[order], *_match(overlaps, is_crowd)))

    def figures(self) -> PrecisionFigures:
        """Return the figures of all frames so far."""
        classes = [self._of(index) for index, count in sorted(self._objects.items()) if count]
        return PrecisionFigures(
            frames=self._frames,
            map_50=_mean([each.ap_50 for each in classes]),
            map=_mean([each.ap for each in classes]),
            classes=tuple(classes),
        )

    def _of(self, class_index: int) -> ClassPrecision:
        parts = zip(*self._rows[class_index], strict=True)
        scores, hits, ignored = (np.concatenate(part, axis=-1) for part in parts)
        order = np.argsort(-scores, kind="stable")
        objects = self._objects[class_index]
        precisions = [
            average_precision(hit[order][~left_out[order]], objects)
            for hit, left_out in zip(hits, ignored, strict=True)
        ]
        label = label_of(self._labels, class_index)
        mean = float(np.mean(precisions))
        return ClassPrecision(label=label, objects=objects, ap_50=precisions[0], ap=mean)


def average_precision(hits: Array, objects: int) -> float:
    """Return the mean precision at 101 points of recall; `hits` are booleans, best score first."""
    if not len(hits):
        return 0.0
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    best_from_there = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / objects, RECALLS, side="left")
    return float(np.append(best_from_there, 0.0)[places].mean())


def _overlaps(boxes: Array, true_boxes: Array, is_crowd: Array) -> Array:
    """Return (boxes, true boxes) intersections over unions; over a crowd, the share of the box inside."""
    common, areas, true_areas = common_areas(boxes, true_boxes)
    unions = np.where(is_crowd[None, :], areas[:, None], areas[:, None] + true_areas[None, :] - common)
    return np.nan_to_num(common / np.maximum(unions, 1e-12), nan=0.0, posinf=0.0)


def _match(overlaps: Array, is_crowd: Array) -> tuple[Array, Array]:
    """Return (IOUS, boxes) booleans: which found an object, and which are only in a crowd.

    Boxes are in order of score; each takes the free object that it overlaps most, the last of equals.
    """
    hits = np.zeros((len(IOUS), len(overlaps)), bool)
    ignored = np.zeros_like(hits)
    objects = int((~is_crowd).sum())
    is_free = np.ones((len(IOUS), objects), bool)
    for index, row in enumerate(overlaps):
        free = np.where(is_free & (row[:objects] >= IOUS[:, None]), row[:objects], -1.0)
        if objects:
            best = objects - 1 - free[:, ::-1].argmax(axis=1)
            hits[:, index] = free.max(axis=1) >= 0.0
            is_free[hits[:, index], best[hits[:, index]]] = False
        in_crowd = (row[objects:, None] >= IOUS).any(axis=0)
        ignored[:, index] = in_crowd & ~hits[:, index]
    return hits, ignored


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
