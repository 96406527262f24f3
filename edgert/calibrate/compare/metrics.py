"""How near a candidate (INT8) comes to its reference (FP32), frame after frame, in bounded memory.

Each `add` returns the frame's own difference: 0 where both say the same, larger the more has changed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from edgert.frames.matching import TensorMatch, detections_at, match_detections, match_tensors, overlaps_of
from edgert.frames.result import Array, Classes, Detections

COMPARED_SCORE_MIN = 0.5  # of a detection that counts
IOU_MIN = 0.5  # of two boxes that are the same
_TOP = 5


class ClassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Two classifiers over the same frames. Shares are 0..1; accuracies are of the labelled frames."""

    frames: int
    top1_agreement: float
    top5_overlap: float  # mean share of the five best classes that both have
    labelled: int = 0
    reference_top1: float | None = None
    reference_top5: float | None = None
    candidate_top1: float | None = None
    candidate_top5: float | None = None


class DetectionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Two detectors over the same frames, the reference's detections taken as true. None: there were none."""

    frames: int
    reference_count: int
    candidate_count: int
    matched: int
    recall: float | None  # share of the reference's that the candidate has
    precision: float | None  # share of the candidate's that the reference has
    score_error: float | None  # mean absolute difference of a pair's scores
    iou: float | None  # mean of the pairs
    score_min: float | None = None  # of those that are counted
    lost_below: int | None = None  # of the reference's that are not found: the candidate scores them lower
    new_below: int | None = None  # of the candidate's: the reference does. None: neither told of such scores


class TensorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One output over the frames in which both sides had it in one shape."""

    name: str
    frames: int
    not_finite: int  # frames with NaN or Inf on one side: cosine 0, no relative error
    cosine_mean: float
    cosine_min: float
    relative_error_mean: float | None  # of each frame's largest difference by its largest reference value
    relative_error_max: float | None


class ClassAgreement:
    """Classifications against each other, and against labels. They should hold five classes or more."""

    def __init__(self) -> None:
        self._frames = 0
        self._same = 0
        self._overlap = 0.0
        self._labelled = 0
        self._hits = np.zeros((2, 2), np.int64)  # (reference, candidate) x (best, five best)

    def add(self, reference: Classes, candidate: Classes, truth: int | None = None) -> float:
        """Count one frame; `truth` is its class. Return 1 if the best differ, plus how far scores moved."""
        tops = [side.class_indices[:_TOP].tolist() for side in (reference, candidate)]
        is_same = tops[0][:1] == tops[1][:1]
        longest = max(map(len, tops))
        self._frames += 1
        self._same += is_same
        self._overlap += len({*tops[0]} & {*tops[1]}) / longest if longest else 1.0
        if truth is not None:
            self._labelled += 1
            self._hits += [[truth in top[:1], truth in top] for top in tops]
        return float(not is_same) + _score_distance(reference, candidate)

    def figures(self) -> ClassFigures:
        """Return the figures of all frames so far."""
        frames = max(self._frames, 1)
        counts = ClassFigures(
            frames=self._frames,
            top1_agreement=self._same / frames,
            top5_overlap=self._overlap / frames,
        )
        if not self._labelled:
            return counts
        (best, five), (candidate_best, candidate_five) = (self._hits / self._labelled).tolist()
        return msgspec.structs.replace(
            counts,
            labelled=self._labelled,
            reference_top1=best,
            reference_top5=five,
            candidate_top1=candidate_best,
            candidate_top5=candidate_five,
        )


class DetectionAgreement:
    """Detections against each other: of one class, overlapping, the best first, each at most once."""

    def __init__(self, score_min: float = COMPARED_SCORE_MIN, iou_min: float = IOU_MIN) -> None:
        """What scores less than `score_min` is on neither side."""
        self._score_min = score_min
        self._iou_min = iou_min
        self._frames = 0
        self._counts = [0, 0]
        self._pairs = np.zeros(3)  # how many, sum of score errors, sum of overlaps
        self._crossed = [0, 0]
        self._has_lower = False

    def add(self, reference: Detections, candidate: Detections) -> float:
        """Count one frame. Return the scores of what one side has, plus how far scores and boxes moved."""
        old, new = (_sure(side, self._score_min) for side in (reference, candidate))
        pairs = match_detections(old, new, self._iou_min)
        ones, others = np.array(pairs, np.intp).reshape(-1, 2).T
        scores = old.scores.astype(np.float64), new.scores.astype(np.float64)
        score_error = float(np.abs(scores[0][ones] - scores[1][others]).sum())
        iou = float(overlaps_of(old.boxes_xyxy_px, new.boxes_xyxy_px)[ones, others].sum())
        self._frames += 1
        self._counts = [self._counts[0] + len(scores[0]), self._counts[1] + len(scores[1])]
        self._pairs += (len(pairs), score_error, iou)
        alone = np.delete(scores[0], ones).sum() + np.delete(scores[1], others).sum()
        self._count_crossed((_without(old, ones), candidate), (_without(new, others), reference))
        return float(alone) + score_error + len(pairs) - iou

    def _count_crossed(self, *sides: tuple[Detections, Detections]) -> None:
        """Count, of either side's detections that stand alone, those that the other side scores too low."""
        for index, (alone, all_others) in enumerate(sides):
            lower = _below(all_others, self._score_min)
            self._has_lower |= len(lower.scores) > 0
            self._crossed[index] += len(match_detections(alone, lower, self._iou_min))

    def figures(self) -> DetectionFigures:
        """Return the figures of all frames so far."""
        matched, score_error, iou = self._pairs.tolist()
        reference_count, candidate_count = self._counts
        return DetectionFigures(
            frames=self._frames,
            reference_count=reference_count,
            candidate_count=candidate_count,
            matched=int(matched),
            recall=_ratio(matched, reference_count),
            precision=_ratio(matched, candidate_count),
            score_error=_ratio(score_error, matched),
            iou=_ratio(iou, matched),
            score_min=self._score_min,
            lost_below=self._crossed[0] if self._has_lower else None,
            new_below=self._crossed[1] if self._has_lower else None,
        )


class TensorAgreement:
    """Outputs as the engines gave them, each by its name."""

    def __init__(self) -> None:
        self._outputs: dict[str, _OutputTally] = {}

    def add(self, reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> float:
        """Count one frame's outputs. Return 1 less the least cosine; one of another shape has 0.

        An output of another shape, or that is not there, is not in the figures.
        """
        cosines = [1.0]
        for name, old in reference.items():
            new = candidate.get(name)
            if new is None or new.shape != old.shape:
                cosines.append(0.0)
                continue
            match = match_tensors(old, new)
            self._outputs.setdefault(name, _OutputTally()).add(match)
            cosines.append(match.cosine)
        return 1.0 - min(cosines)

    def figures(self) -> tuple[TensorFigures, ...]:
        """Return the figures of all frames so far, in the order of the outputs."""
        return tuple(tally.figures(name) for name, tally in self._outputs.items())


class _OutputTally:
    """One output's sums and extremes."""

    def __init__(self) -> None:
        self._frames = 0
        self._not_finite = 0
        self._cosine_sum = 0.0
        self._cosine_min = 1.0
        self._error_sum = 0.0
        self._error_max = 0.0

    def add(self, match: TensorMatch) -> None:
        self._frames += 1
        self._cosine_sum += match.cosine
        self._cosine_min = min(self._cosine_min, match.cosine)
        if np.isfinite(match.relative_error):
            self._error_sum += match.relative_error
            self._error_max = max(self._error_max, match.relative_error)
        else:
            self._not_finite += 1

    def figures(self, name: str) -> TensorFigures:
        finite = self._frames - self._not_finite
        return TensorFigures(
            name=name,
            frames=self._frames,
            not_finite=self._not_finite,
            cosine_mean=self._cosine_sum / self._frames,
            cosine_min=self._cosine_min,
            relative_error_mean=_ratio(self._error_sum, finite),
            relative_error_max=self._error_max if finite else None,
        )


def _sure(detections: Detections, score_min: float) -> Detections:
    """Return the detections that score `score_min` or more, best first."""
    order = np.argsort(-detections.scores, kind="stable")
    return detections_at(detections, order[detections.scores[order] >= np.float32(score_min)])


def _below(detections: Detections, score_min: float) -> Detections:
    return detections_at(detections, np.flatnonzero(detections.scores < np.float32(score_min)))


def _without(detections: Detections, indices: Array) -> Detections:
    return detections_at(detections, np.delete(np.arange(len(detections.scores)), indices))


def _score_distance(reference: Classes, candidate: Classes) -> float:
    """Return half the sum of what the five best classes of either side gained or lost."""
    old, new = (
        dict(zip(side.class_indices[:_TOP].tolist(), side.scores[:_TOP].tolist(), strict=True))
        for side in (reference, candidate)
    )
    return float(sum(abs(old.get(each, 0.0) - new.get(each, 0.0)) for each in {*old, *new})) / 2


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
