"""A `score_min` that changes while a model runs."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.decode.centerface import CenterFaceOptions
from edgert.decode.classify import ClassifyOptions
from edgert.decode.decoder import ScoreLimited
from edgert.decode.factory import open_decoder
from edgert.decode.ssd import SsdOptions
from edgert.decode.tensors import TensorsOptions
from edgert.decode.yolo import YoloOptions
from edgert.frames.placement import Placement
from edgert.models.tensor_spec import TensorSpec

LABELS = ("person", "bicycle", "car")
PLACEMENT = Placement.stretch(32, 32, 32, 32)
BOXES = np.array([[0, 0, 8, 8], [10, 10, 20, 20], [22, 22, 30, 30]], np.float32)
SCORES = np.array([[0.3, 0, 0], [0, 0.6, 0], [0, 0, 0.9]], np.float32)
ONES = np.ones((3, 1), np.float32)
CASES = [
    (SsdOptions(normalized=False), {"boxes": BOXES, "scores": SCORES}),
    (YoloOptions(head="v5"), {"o": np.hstack([BOXES + 1, ONES, SCORES])}),
    (YoloOptions(head="v8"), {"o": np.hstack([BOXES + 1, SCORES]).T.copy()}),
    (YoloOptions(head="end2end"), {"o": np.hstack([BOXES, SCORES.max(axis=1, keepdims=True), ONES])}),
    (ClassifyOptions(), {"o": SCORES.max(axis=1)}),
    (
        CenterFaceOptions(),
        {
            "heatmap": np.array([[[0.3, 0.6, 0.9]]], np.float32),
            "scale": np.zeros((2, 1, 3), np.float32),
            "offset": np.zeros((2, 1, 3), np.float32),
            "landmarks": np.zeros((10, 1, 3), np.float32),
        },
    ),
]


def open_for(options, outputs):
    labels = () if isinstance(options, CenterFaceOptions) else LABELS
    specs = tuple(TensorSpec(name, "float32", (-1, *array.shape)) for name, array in outputs.items())
    return open_decoder(options, labels, specs)


@pytest.mark.parametrize(("options", "outputs"), CASES, ids=lambda case: type(case).__name__)
@pytest.mark.parametrize(
    ("score_min", "left"), [(0.0, [0.9, 0.6, 0.3]), (0.5, [0.9, 0.6]), (0.9, [0.9]), (1.0, [])]
)
def test_results_are_those_of_the_new_limit(options, outputs, score_min, left):
    decoder = open_for(options, outputs)
    assert isinstance(decoder, ScoreLimited)
    decoder.set_score_min(score_min)
    scores = decoder.decode(outputs, PLACEMENT).scores
    found = [round(float(score), 4) for score in scores if score > 0]
    assert found == left


def test_the_options_that_were_read_stay_as_they_were():
    options, outputs = CASES[0]
    open_for(options, outputs).set_score_min(0.9)
    assert options.score_min == 0.5
    assert len(open_for(options, outputs).decode(outputs, PLACEMENT).scores) == 2


def test_plain_tensors_have_no_limit():
    assert not isinstance(open_for(TensorsOptions(), {"o": BOXES}), ScoreLimited)
