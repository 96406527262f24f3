"""INT8 against FP32 over held-out frames: all figures that the kind of output allows."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edgert.calibrate.compare.average_precision import MeanAveragePrecision, PrecisionFigures
from edgert.calibrate.compare.labels import TrueBoxes
from edgert.calibrate.compare.metrics import (
    COMPARED_SCORE_MIN,
    ClassAgreement,
    ClassFigures,
    DetectionAgreement,
    DetectionFigures,
    TensorAgreement,
    TensorFigures,
)
from edgert.frames.result import Array, Classes, Detections, Output


class Answer(msgspec.Struct, frozen=True):
    """What one model says of one frame: its outputs without the batch axis, and what they decode to."""

    outputs: Mapping[str, Array]
    decoded: Output


class ComparisonFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures. What the model has not, or nothing was labelled for, is None."""

    frames: int
    classes: ClassFigures | None = None
    detections: DetectionFigures | None = None
    reference_map: PrecisionFigures | None = None
    candidate_map: PrecisionFigures | None = None
    tensors: tuple[TensorFigures, ...] = ()

    @property
    def top1_agreement(self) -> float | None:
        """Share of the frames whose best class is the same."""
        return self.classes.top1_agreement if self.classes and self.classes.frames else None

    @property
    def recall(self) -> float | None:
        """Share of the reference's detections that the candidate has."""
        return self.detections.recall if self.detections else None

    @property
    def precision(self) -> float | None:
        """Share of the candidate's detections that the reference has."""
        return self.detections.precision if self.detections else None

    @property
    def score_error(self) -> float | None:
        """Mean difference of scores of the same detection."""
        return self.detections.score_error if self.detections else None

    @property
    def cosine_min(self) -> float | None:
        """Of the worst output in the worst frame."""
        return min((output.cosine_min for output in self.tensors), default=None)

    @property
    def cosine_mean(self) -> float | None:
        """Of the worst output."""
        return min((output.cosine_mean for output in self.tensors), default=None)

    @property
    def accuracy_drop(self) -> float | None:
        """How much less of the labelled frames the candidate's best class is right in."""
        classes = self.classes
        return _drop(classes.reference_top1, classes.candidate_top1) if classes else None

    @property
    def map_drop(self) -> float | None:
        """How much less the candidate's mAP is, IoU 0.5 to 0.95."""
        if self.reference_map is None or self.candidate_map is None:
            return None
        return _drop(self.reference_map.map, self.candidate_map.map)

    @property
    def agreement(self) -> float:
        """The one figure to choose by, 0..1: top-1, or the F1 of the detections, or the worst mean cosine.

        Where neither side finds anything, they agree.
        """
        if self.classes:
            return self.classes.top1_agreement
        if self.detections:
            both = self.detections.reference_count + self.detections.candidate_count
            return 2 * self.detections.matched / both if both else 1.0
        return 1.0 if self.cosine_mean is None else self.cosine_mean


class HeldOutComparison:
    """Counts both models' answers frame by frame, in bounded memory."""

    def __init__(self, score_min: float = COMPARED_SCORE_MIN) -> None:
        """Detections below `score_min` count only for the mAP, so a decoder may give them too."""
        self._frames = 0
        self._classes = ClassAgreement()
        self._detections = DetectionAgreement(score_min)
        self._tensors = TensorAgreement()
        self._maps = MeanAveragePrecision(), MeanAveragePrecision()
        self._kind: type[Output] | None = None
        self._labelled = 0

    def add(self, reference: Answer, candidate: Answer, truth: int | TrueBoxes | None = None) -> float:
        """Count one frame; `truth` is its class or its objects. Return its difference, 0 for none."""
        self._frames += 1
        moved = self._tensors.add(reference.outputs, candidate.outputs)
        old, new = reference.decoded, candidate.decoded
        self._kind = type(old)
        if isinstance(old, Classes) and isinstance(new, Classes):
            return self._classes.add(old, new, truth if isinstance(truth, int) else None)
        if isinstance(old, Detections) and isinstance(new, Detections):
            if isinstance(truth, TrueBoxes):
                self._labelled += 1
                self._maps[0].add(old, truth)
                self._maps[1].add(new, truth)
            return self._detections.add(old, new)
        return moved

    def figures(self) -> ComparisonFigures:
        """Return the figures of all frames so far."""
        maps = [each.figures() for each in self._maps] if self._labelled else [None, None]
        return ComparisonFigures(
            frames=self._frames,
            classes=self._classes.figures() if self._kind is Classes else None,
            detections=self._detections.figures() if self._kind is Detections else None,
            reference_map=maps[0],
            candidate_map=maps[1],
            tensors=self._tensors.figures(),
        )


def _drop(reference: float | None, candidate: float | None) -> float | None:
    return None if reference is None or candidate is None else reference - candidate
