"""Which layers stay in float, and how many, by figures that are made up."""

import numpy as np
import pytest

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.metrics import ClassFigures, DetectionFigures, TensorFigures
from edgert.calibrate.fewest import LAYER_SHARE, counts_tried, fewest_layers, surely_nearest, worst_layers
from edgert.calibrate.quantize.layers import weighted_layers
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import conv, parameters, read


def cosine(mean):
    return TensorFigures(
        name="y",
        frames=50,
        not_finite=0,
        cosine_mean=mean,
        cosine_min=mean,
        relative_error_mean=0,
        relative_error_max=0,
    )


def classes(same, mean=0.9, frames=50):
    figures = ClassFigures(frames=frames, top1_agreement=same / frames, top5_overlap=1)
    return ComparisonFigures(frames=frames, classes=figures, tensors=(cosine(mean),))


def boxes(matched, mean=0.9, each=200):
    figures = DetectionFigures(
        frames=50,
        reference_count=each,
        candidate_count=each,
        matched=matched,
        recall=None,
        precision=None,
        score_error=None,
        iou=None,
    )
    return ComparisonFigures(frames=50, detections=figures, tensors=(cosine(mean),))


def tensors(mean):
    return ComparisonFigures(frames=50, tensors=(cosine(mean),))


@pytest.mark.parametrize(
    ("most", "counts"), [(0, [0]), (1, [0, 1]), (4, [0, 1, 2, 4]), (12, [0, 1, 3, 6, 12]), (3, [0, 1, 3])]
)
def test_how_many_layers_are_tried(most, counts):
    assert counts_tried(most) == counts


def test_a_layer_with_many_weights_has_to_bring_more(tmp_path):
    shapes = {"small": (4, 3, 1, 1), "large": (97, 4, 1, 1)}  # 12 and 388 of 400 weights
    nodes = [conv("small", "image", "maps"), conv("large", "maps", "out")]
    model = graph(nodes, {"image": ["n", 3, 5, 5]}, {"out": ["n", 97, 5, 5]}, parameters(**shapes))
    layers = weighted_layers(read(tmp_path, model).graph())
    costs = 1 + np.array([12, 388]) / 400 / LAYER_SHARE
    even = float(costs[1] / costs[0])
    assert worst_layers({"small": 1.0, "large": even * 0.99}, layers) == ["small", "large"]
    assert worst_layers({"small": 1.0, "large": even * 1.01}, layers) == ["large", "small"]


@pytest.mark.parametrize(
    ("tried", "nearest"),
    [
        ([classes(47, 0.9), classes(49, 0.8)], 0),  # 3 and 1 wrong of 50: may be luck, the outputs are not
        ([classes(40, 0.9), classes(49, 0.8)], 1),
        ([classes(48, 0.9), classes(49, 0.9)], 1),
        ([boxes(195, 0.9), boxes(197, 0.8), boxes(197, 0.91)], 2),
        ([tensors(0.9), tensors(0.91)], 1),
    ],
)
def test_what_is_nearest_but_for_chance(tried, nearest):
    assert surely_nearest(dict(enumerate(tried))) == nearest


@pytest.mark.parametrize(
    ("tried", "fewest"),
    [
        ([classes(47), classes(48), classes(47), classes(49)], 0),  # 3 and 1 wrong of 50: may be luck
        ([classes(40), classes(48), classes(47), classes(49)], 1),
        ([classes(48), classes(50), classes(50)], 1),
        (
            [classes(49, 0.9), classes(49, 0.9905), classes(49, 0.991)],
            1,
        ),  # luck or not, the outputs are nearer
        ([classes(49, 0.9), classes(49, 0.901)], 0),
        ([boxes(196), boxes(195), boxes(197)], 0),  # 8, 10 and 6 without a partner
        ([boxes(180), boxes(195), boxes(197)], 1),
        ([tensors(0.9), tensors(0.9915), tensors(0.9916), tensors(0.992)], 1),
        ([tensors(0.9), tensors(0.8)], 0),
        ([tensors(0.99)], 0),
        ([ComparisonFigures(frames=0), ComparisonFigures(frames=0)], 0),
    ],
)
def test_no_more_layers_than_do_good(tried, fewest):
    assert fewest_layers(dict(enumerate(tried)), 2.0) == fewest


def test_the_first_that_agrees_enough_is_enough():
    tried = dict(enumerate([classes(40), classes(45), classes(50)]))
    assert fewest_layers(tried, 0.9) == 1
    assert fewest_layers(tried, 0.5) == 0
    assert fewest_layers(tried, 1.0) == 2


def test_all_of_a_few_frames_may_be_luck_so_the_nearer_outputs_count():
    tried = dict(enumerate([classes(40, 0.8), classes(50, 0.9), classes(49, 0.99)]))
    assert fewest_layers(tried, 1.0) == 2
    assert fewest_layers(tried, 0.999) == 1
