"""YOLO heads as they are exported: v5, v8 (and v11), and end-to-end with suppression inside the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from edgert.decode.decoder import ScoreLimited
from edgert.decode.detect import DetectOptions, Finisher, corners
from edgert.decode.outputs import Shapes, expect_shape, only_output
from edgert.decode.ranking import best_classes, boxes_with_hits
from edgert.errors import ModelError
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Detections

Candidates = tuple[Array, Array, Array]  # boxes x1 y1 x2 y2 (n, 4), scores (n,), class indices (n,)
_Read = Callable[[Array, float], Candidates]

_AXES: dict[str, dict[str, int]] = {
    "v5": {"boxes": -1, "5 + classes": -1},
    "v8": {"4 + classes": -1, "boxes": -1},
    "end2end": {"boxes": -1, "x1 y1 x2 y2 score class:": 6},
}


class YoloOptions(DetectOptions, frozen=True, kw_only=True, tag_field="kind", tag="yolo"):
    """The output is (boxes, 5 + classes), (4 + classes, boxes) or (boxes, 6), by `head`."""

    head: Literal["v5", "v8", "end2end"]  # v8: also v9 and v11
    output: str | None = None  # its name, where the engine has several
    normalized: bool = False  # coordinates are fractions of the tensor's sides, else tensor pixels


class YoloDecoder(ScoreLimited):
    """Takes each box's best class."""

    def __init__(self, options: YoloOptions, labels: Sequence[str], shapes: Shapes) -> None:
        """Raises ModelError if options, labels and outputs do not fit together."""
        self._options = options
        self._output = only_output(shapes, options.output)
        shape = expect_shape(shapes, self._output, _AXES[options.head])
        self._finisher = Finisher(options, labels, _class_count(options.head, shape, labels))
        read_end2end = partial(_read_end2end, class_limit=len(labels) or 2**31)
        readers: dict[str, _Read] = {"v5": _read_v5, "v8": _read_v8, "end2end": read_end2end}
        self._read = readers[options.head]

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Detections:
        """Return detections in source pixels."""
        boxes, scores, classes = self._read(outputs[self._output], self._options.score_min)
        boxes = boxes.astype(np.float32, copy=False)
        if self._options.normalized:
            boxes = boxes * np.array((placement.tensor_width, placement.tensor_height) * 2, np.float32)
        overlap = self._options.head == "end2end"
        return self._finisher.finish(boxes, scores, classes, placement, overlap=overlap)


def _class_count(head: str, shape: tuple[int, ...], labels: Sequence[str]) -> int:
    if head == "end2end":
        return len(labels) or -1
    side, others = (shape[1], 5) if head == "v5" else (shape[0], 4)
    if 0 <= side <= others:
        raise ModelError(
            f"A {head} head of shape {shape} has no classes; expected more than {others} values a box."
        )
    return side if side < 0 else side - others


def _read_v5(output: Array, score_min: float) -> Candidates:
    """Read rows of centre x, centre y, width, height, objectness, classes; a score is the product."""
    rows = output[np.flatnonzero(output[:, 4] >= np.float32(score_min))].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        products = rows[:, 5:] * rows[:, 4:5]
    hits, classes, scores = best_classes(products, score_min)
    return corners(rows[hits, :4]), scores, classes


def _read_v8(output: Array, score_min: float) -> Candidates:
    """Read columns of centre x, centre y, width, height, classes."""
    columns = boxes_with_hits(output[4:], score_min, class_axis=0)
    hits, classes, scores = best_classes(output[4:, columns].T, score_min)
    return corners(output[:4, columns[hits]].T.astype(np.float32)), scores, classes


def _read_end2end(output: Array, score_min: float, class_limit: int) -> Candidates:
    """Read rows of x1, y1, x2, y2, score, class; a class that there is not, e.g. -1, marks an empty row."""
    scores, classes = output[:, 4], output[:, 5]
    is_score = (scores >= np.float32(score_min)) & (scores < np.inf)
    rows = output[is_score & (classes >= 0) & (classes < class_limit)].astype(np.float32)
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.intp)
