"""How near a new engine comes to onnxruntime on the same pictures: its outputs, and what they decode to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np

from edgert.build.matching import DetectionMatch
from edgert.build.options import Precision
from edgert.decode.decoder import Decoder
from edgert.frames.matching import TensorMatch, match_tensors
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Classes, Detections, Output

Outputs = Mapping[str, Array]


class Subject(Protocol):
    """An engine as the comparison sees it."""

    def run(self, inputs: Mapping[str, Array]) -> Outputs:
        """Return the outputs for one batch; the arrays are the caller's."""


class Example(msgspec.Struct, frozen=True):
    """One picture, prepared as the model wants it. `tensor` has no batch axis."""

    name: str
    tensor: Array
    placement: Placement


class Side(msgspec.Struct, frozen=True):
    """An engine with the decoder for its outputs."""

    subject: Subject
    decoder: Decoder

    def decode(self, outputs: Outputs, example: Example) -> Output:
        """Return what the model says of a picture."""
        return self.decoder.decode(outputs, example.placement)


class Limits(msgspec.Struct, frozen=True):
    """What is still near enough. All are 0..1."""

    cosine_min: float  # of an output to its reference, in the worst picture
    agreement_min: float  # share of detections, or of best classes, that both sides have
    score_difference_max: float  # of a detection that both sides have


# TensorRT rounds FP32 to TF32 (10 bits) inside convolutions, so that not even FP32 is exact.
LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(0.9999, 0.99, 0.02),
    "fp16": Limits(0.999, 0.95, 0.05),
    "int8": Limits(0.97, 0.85, 0.2),
}


class OutputMatch(msgspec.Struct, frozen=True):
    """One output against its reference, in the worst picture."""

    name: str
    cosine: float  # 1: the same direction; 0 where values are not finite
    relative_error: float  # the largest difference by the largest reference value


class Agreement(msgspec.Struct, frozen=True):
    """What was decoded of both sides."""

    kind: Literal["detections", "best class"]
    share: float
    compared: int  # detections, or pictures
    score_difference: float = 0.0


class Comparison(msgspec.Struct, frozen=True):
    """The verdict and what it rests on."""

    pictures: int
    outputs: tuple[OutputMatch, ...]
    agreement: Agreement | None
    limits: Limits
    problems: tuple[str, ...]  # empty: near enough

    @property
    def is_near(self) -> bool:
        """The new engine may take over."""
        return not self.problems


def limits_for(precision: Precision, tolerance: float | None) -> Limits:
    """Return the limits of a precision, or those that allow each measure to be off by `tolerance`."""
    if tolerance is None:
        return LIMITS[precision]
    return Limits(1 - tolerance, 1 - tolerance, tolerance)


class Comparer:
    """Runs both sides on the same batches."""

    def __init__(self, input_name: str, *, has_batch_axis: bool, batch: int, is_fixed: bool) -> None:
        """Batches are `batch` long, or up to that if the engine takes any size."""
        self._input_name = input_name
        self._has_batch_axis = has_batch_axis
        self._batch = batch if has_batch_axis else 1
        self._is_fixed = is_fixed

    def compare(
        self, reference: Side, candidate: Side, examples: Sequence[Example], score_min: float, limits: Limits
    ) -> Comparison:
        """Return how near `candidate` comes; outputs of another shape count only as decoded.

        `score_min` is the least score of a detection.
        """
        tensors, decoded = _TensorTally(), _DecodedTally(score_min, limits)
        for chunk in self._chunks(examples):
            inputs = self._inputs(chunk)
            batches = reference.subject.run(inputs), candidate.subject.run(inputs)
            for index, example in enumerate(chunk):
                old, new = ({n: self._part(a, index) for n, a in batch.items()} for batch in batches)
                tensors.add(old, new)
                decoded.add(reference.decode(old, example), candidate.decode(new, example))
        outputs, agreement = tensors.matches(), decoded.agreement()
        problems = tuple(_problems(outputs, agreement, limits))
        return Comparison(len(examples), outputs, agreement, limits, problems)

    def _chunks(self, examples: Sequence[Example]) -> list[Sequence[Example]]:
        shapes = {example.tensor.shape for example in examples}
        size = self._batch if len(shapes) == 1 or self._is_fixed else 1
        return [examples[start : start + size] for start in range(0, len(examples), size)]

    def _inputs(self, chunk: Sequence[Example]) -> dict[str, Array]:
        items = [example.tensor for example in chunk]
        if not self._has_batch_axis:
            return {self._input_name: items[0]}
        if self._is_fixed:  # the rest of the batch is the last picture again
            items += [items[-1]] * (self._batch - len(items))
        return {self._input_name: np.stack(items)}

    def _part(self, array: Array, index: int) -> Array:
        return array[index] if self._has_batch_axis else array


class _TensorTally:
    """The worst of each output."""

    def __init__(self) -> None:
        self._worst: dict[str, TensorMatch] = {}

    def add(self, old: Outputs, new: Outputs) -> None:
        for name, reference in old.items():
            value = new.get(name)
            if value is None or value.shape != reference.shape:
                continue  # rows that were left out, or come in another order
            match = match_tensors(reference, value)
            worst = self._worst.get(name, match)
            self._worst[name] = TensorMatch(
                min(worst.cosine, match.cosine), max(worst.relative_error, match.relative_error)
            )

    def matches(self) -> tuple[OutputMatch, ...]:
        return tuple(
            OutputMatch(name, worst.cosine, worst.relative_error) for name, worst in self._worst.items()
        )


class _DecodedTally:
    """What both sides found, over all pictures."""

    def __init__(self, score_min: float, limits: Limits) -> None:
        self._detections = DetectionMatch(score_min + limits.score_difference_max)
        self._tops: list[bool] = []
        self._kind: Literal["detections", "best class", ""] = ""

    def add(self, old: Output, new: Output) -> None:
        if isinstance(old, Detections) and isinstance(new, Detections):
            self._kind = "detections"
            self._detections.add(old, new)
        elif isinstance(old, Classes) and isinstance(new, Classes):
            self._kind = "best class"
            self._tops.append(np.array_equal(old.class_indices[:1], new.class_indices[:1]))

    def agreement(self) -> Agreement | None:
        if self._kind == "best class":
            return Agreement("best class", sum(self._tops) / len(self._tops), len(self._tops))
        if self._kind == "detections":
            found = self._detections
            return Agreement("detections", found.share, found.compared, found.score_difference)
        return None


def _problems(outputs: Sequence[OutputMatch], agreement: Agreement | None, limits: Limits) -> list[str]:
    problems = [
        f"output {match.name!r} has a cosine of {match.cosine:.5f}, expected {limits.cosine_min} or more"
        for match in outputs
        if match.cosine < limits.cosine_min
    ]
    if agreement is not None and agreement.compared:
        problems += _disagreements(agreement, limits)
    elif not outputs:
        problems.append("nothing could be compared: the model finds nothing in these pictures; give others")
    return problems


def _disagreements(agreement: Agreement, limits: Limits) -> list[str]:
    problems = []
    if agreement.share < limits.agreement_min:
        problems.append(
            f"{agreement.kind}: {agreement.share:.1%} of {agreement.compared} agree, expected "
            f"{limits.agreement_min:.1%} or more"
        )
    if agreement.score_difference > limits.score_difference_max:
        problems.append(
            f"scores of the same detections differ by {agreement.score_difference:.3f}, expected at most "
            f"{limits.score_difference_max}"
        )
    return problems
