"""SSD with its anchors decoded by the engine: a box and the scores of all classes for each anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from edgert.decode.decoder import ScoreLimited
from edgert.decode.detect import DetectOptions, Finisher
from edgert.decode.outputs import Shapes, expect_shape
from edgert.decode.ranking import best_classes, boxes_with_hits
from edgert.errors import ModelError
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Detections


class SsdOptions(DetectOptions, frozen=True, kw_only=True, tag_field="kind", tag="ssd"):
    """Outputs are boxes (anchors, 4) and scores (anchors, classes), 0..1."""

    boxes: str = "boxes"  # name of the output
    scores: str = "scores"
    order: Literal["yxyx", "xyxy"] = "yxyx"  # of a box's corners
    normalized: bool = True  # boxes are fractions of the tensor's sides, else tensor pixels
    class_offset: Annotated[int, Meta(ge=0)] = 0  # leading scores that have no label: 1 for a background


class SsdDecoder(ScoreLimited):
    """Takes each anchor's best class."""

    def __init__(self, options: SsdOptions, labels: Sequence[str], shapes: Shapes) -> None:
        """Raises ModelError if options, labels and outputs do not fit together."""
        anchors, classes = expect_shape(shapes, options.scores, {"anchors": -1, "classes": -1})
        expect_shape(shapes, options.boxes, {"anchors": anchors, "corners": 4})
        if 0 <= classes <= options.class_offset:
            raise ModelError(f"class_offset is {options.class_offset}, the output has {classes} classes.")
        self._options = options
        self._finisher = Finisher(options, labels, classes if classes < 0 else classes - options.class_offset)

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Detections:
        """Return detections in source pixels."""
        options = self._options
        all_scores = outputs[options.scores]
        hits = boxes_with_hits(all_scores, options.score_min, class_axis=1)
        rows, classes, scores = best_classes(all_scores[hits, options.class_offset :], options.score_min)
        boxes = outputs[options.boxes][hits[rows]].astype(np.float32)
        if options.order == "yxyx":
            boxes = boxes[:, (1, 0, 3, 2)]
        if options.normalized:
            boxes *= np.array((placement.tensor_width, placement.tensor_height) * 2, np.float32)
        return self._finisher.finish(boxes, scores, classes, placement)
