"""Classification: the best classes of one row of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from edgert.config import Options
from edgert.decode.decoder import ScoreLimited
from edgert.decode.labels import allowed_classes, check_labels
from edgert.decode.outputs import Shapes, only_output
from edgert.decode.ranking import best_first
from edgert.errors import ModelError
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Classes

Score = Annotated[float, Meta(ge=-1e30, le=1e30)]


class ClassifyOptions(Options, frozen=True, kw_only=True, tag_field="kind", tag="classify"):
    """The output is (classes,), sides of 1 beside it do not matter."""

    output: str | None = None  # its name, where the engine has several
    activation: Literal["none", "softmax"] = "none"  # what still has to be applied to the output
    top_k: Annotated[int, Meta(ge=1)] = 5
    score_min: Score | None = None  # after the activation; absent: the best are reported however low
    classes: tuple[str, ...] = ()  # only these labels; empty: all


class ClassifyDecoder(ScoreLimited):
    """Ranks the classes."""

    def __init__(self, options: ClassifyOptions, labels: Sequence[str], shapes: Shapes) -> None:
        """Raises ModelError if options, labels and outputs do not fit together."""
        self._output = only_output(shapes, options.output)
        shape = shapes[self._output]
        sides = [side for side in shape if side != 1]
        if len(sides) > 1:
            raise ModelError(
                f"Output {self._output!r} is {shape} without its batch axis; expected (classes)."
            )
        class_count = sides[0] if sides else 1
        check_labels(labels, class_count)
        self._options = options
        self._labels = labels
        self._allowed = allowed_classes(options.classes, labels, class_count)

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Classes:
        """Return the best classes; scores that are not finite are ignored."""
        scores = outputs[self._output].ravel().astype(np.float32)
        finite = np.flatnonzero(np.isfinite(scores))
        scores = scores[finite]
        if self._options.activation == "softmax":
            scores = softmax(scores)
        wanted = self._wanted(scores, finite)
        best = wanted[best_first(scores[wanted], self._options.top_k)]
        return Classes(scores[best], finite[best], self._labels)

    def _wanted(self, scores: Array, classes: Array) -> Array:
        """Return the indices of the scores that may be reported."""
        is_wanted = np.ones(len(scores), bool)
        score_min = self._options.score_min
        if score_min is not None:
            is_wanted &= scores >= np.float32(score_min)
        if self._allowed is not None:
            is_wanted &= self._allowed[classes]
        return np.flatnonzero(is_wanted)


def softmax(logits: Array) -> Array:
    """Return (n,) float32 probabilities of finite logits."""
    if not logits.size:
        return logits
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
