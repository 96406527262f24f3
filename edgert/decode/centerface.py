"""CenterFace: one face for each peak of a heatmap, with five landmarks (arXiv:1911.03599)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgert.decode.decoder import ScoreLimited
from edgert.decode.detect import DetectOptions, Finisher, Fraction
from edgert.decode.outputs import Shapes, expect_shape
from edgert.errors import ModelError
from edgert.frames.placement import Placement
from edgert.frames.result import Array, Detections

STRIDE_PX = 4  # tensor pixels a heatmap cell
PARTS = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}  # channels


class CenterFaceOptions(DetectOptions, frozen=True, kw_only=True, tag_field="kind", tag="centerface"):
    """Outputs are heatmap (1, h, w), scale (2, h, w), offset (2, h, w), landmarks (10, h, w); y before x."""

    iou_max: Fraction = 0.3
    outputs: tuple[str, str, str, str] | None = None  # their names; else by channels, scale before offset


class CenterFaceDecoder(ScoreLimited):
    """Reads the cells of the heatmap that reach `score_min`.

    Unlike the paper's code it does not clip a box before placing landmarks relative to it.
    """

    def __init__(self, options: CenterFaceOptions, labels: Sequence[str], shapes: Shapes) -> None:
        """Raises ModelError if options, labels and outputs do not fit together."""
        names = options.outputs or _names_by_channels(shapes)
        for name, (part, channels) in zip(names, PARTS.items(), strict=True):
            expect_shape(shapes, name, {f"{part} channels": channels, "height": -1, "width": -1})
        self._heatmap, self._scale, self._offset, self._landmarks = names
        self._options = options
        self._finisher = Finisher(options, labels, 1)

    def decode(self, outputs: Mapping[str, Array], placement: Placement) -> Detections:
        """Return faces in source pixels, with landmarks: eyes, nose, corners of the mouth."""
        heatmap = outputs[self._heatmap][0]
        is_hit = (heatmap >= np.float32(self._options.score_min)) & (heatmap < np.inf)
        rows, columns = np.divmod(np.flatnonzero(is_hit), heatmap.shape[1])
        cells = np.stack([rows, columns]).astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.exp(self._at(outputs, self._scale, rows, columns)) * STRIDE_PX
            centre = (cells + self._at(outputs, self._offset, rows, columns) + np.float32(0.5)) * STRIDE_PX
            first = centre - size / 2
            boxes = np.concatenate([first, first + size])[(1, 0, 3, 2), :].T
            points = self._at(outputs, self._landmarks, rows, columns).reshape(5, 2, -1) * size + first
        good = np.flatnonzero(np.isfinite(points).all(axis=(0, 1)))
        scores = heatmap[rows, columns].astype(np.float32)[good]
        points_xy = points[:, ::-1].transpose(2, 0, 1)[good]
        classes = np.zeros(len(good), np.intp)
        return self._finisher.finish(boxes[good], scores, classes, placement, landmarks_xy_px=points_xy)

    @staticmethod
    def _at(outputs: Mapping[str, Array], name: str, rows: Array, columns: Array) -> Array:
        """Return (channels, n) float32 values of an output at these cells."""
        return outputs[name][:, rows, columns].astype(np.float32)


def _names_by_channels(shapes: Shapes) -> tuple[str, ...]:
    left = {name: shape[0] for name, shape in shapes.items() if len(shape) == 3}
    names = []
    for part, channels in PARTS.items():
        name = next((name for name, count in left.items() if count == channels), None)
        if name is None:
            raise ModelError(
                f"No output of {channels} channels for the {part} is left among {dict(shapes)}. "
                "Set outputs = [heatmap, scale, offset, landmarks] in [decode]."
            )
        names.append(name)
        del left[name]
    return tuple(names)
