"""Which layers are a detector's decoding, and stay in float without being asked for."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgert.calibrate.asked import placement_asked_for
from edgert.calibrate.quantize.decode_tail import decode_tail
from edgert.calibrate.recipe import load_recipe
from edgert.calibrate.setting import open_setting
from tests.fakes.onnx_graphs import graph
from tests.fakes.recipe import CLASSES, RecipeSite, classifier
from tests.unit.calibrate.tiny_models import conv, node, parameters, random, read

BINS = 4


def tail_of(tmp_path, model):
    return decode_tail(read(tmp_path, model).graph())


def distances():
    """Return a head as YOLOv8 has: a Softmax over bins, and a convolution that sums them, weighted."""
    nodes = [
        conv("stem", "image", "maps"),
        conv("head", "maps", "sides"),
        node("Reshape", ["sides", "apart"], ["bins_last"]),
        node("Transpose", ["bins_last"], ["bins"], perm=[0, 2, 1, 3]),
        node("Softmax", ["bins"], ["shares"], axis=1),
        node("Conv", ["shares", "dfl.w"], ["sums"], "dfl"),
        node("Reshape", ["sums", "flat"], ["out"]),
    ]
    constants = parameters(stem=(8, 3, 1, 1), head=(4 * BINS, 8, 1, 1))
    constants["dfl.w"] = np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)
    constants |= {"apart": np.array([0, 4, BINS, 25]), "flat": np.array([0, 4, 25])}
    return graph(nodes, {"image": [1, 3, 5, 5]}, {"out": [1, 4, 25]}, constants)


def attention(*, has_head):
    """Return attention over rows, its projection and a residual, with or without a classifier behind it."""
    nodes = [
        *(node("MatMul", ["rows", f"{name}.w"], [name], name) for name in ("query", "key", "value")),
        node("Transpose", ["key"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["query", "turned"], ["likeness"]),
        node("Softmax", ["likeness"], ["shares"], axis=-1),
        node("MatMul", ["shares", "value"], ["mixed"]),
        node("MatMul", ["mixed", "project.w"], ["projected"], "project"),
        node("Add", ["rows", "projected"], ["sum"]),
    ]
    names = ["query", "key", "value", "project"]
    if has_head:
        nodes.append(node("MatMul", ["sum", "head.w"], ["logits"], "head"))
        names.append("head")
    constants = {f"{name}.w": random(4, 4, seed=seed) for seed, name in enumerate(names)}
    return graph(nodes, {"rows": [1, 5, 4]}, {"logits" if has_head else "sum": [1, 5, 4]}, constants)


def test_a_sum_over_a_softmax_is_decoding(tmp_path):
    assert tail_of(tmp_path, distances()) == ["dfl"]


@pytest.mark.parametrize("has_head", [True, False])
def test_attention_is_none(tmp_path, has_head):
    assert tail_of(tmp_path, attention(has_head=has_head)) == []


def test_a_softmax_that_weighs_maps_within_a_network_is_none(tmp_path):
    nodes = [
        conv("stem", "image", "maps"),
        node("Softmax", ["maps"], ["shares"], axis=1),
        node("Mul", ["maps", "shares"], ["weighed"]),
        conv("body", "weighed", "more"),
        conv("head", "more", "out"),
    ]
    constants = parameters(stem=(4, 3, 1, 1), body=(4, 4, 1, 1), head=(2, 4, 1, 1))
    assert tail_of(tmp_path, graph(nodes, {"image": [1, 3, 5, 5]}, {"out": [1, 2, 5, 5]}, constants)) == []


def test_a_product_of_the_best_boxes_is_decoding(tmp_path):
    nodes = [
        node("MatMul", ["rows", "scores.w"], ["scores"], "scores"),
        node("MatMul", ["rows", "boxes.w"], ["boxes"], "boxes"),
        node("Reshape", ["scores", "one_row"], ["row"]),
        node("TopK", ["row", "count"], ["values", "places"]),
        node("Gather", ["boxes", "places"], ["best"], axis=0),
        node("MatMul", ["best", "corners.w"], ["out"], "corners"),
    ]
    constants = {"scores.w": random(4, 1), "boxes.w": random(4, 4), "corners.w": random(4, 4)}
    constants |= {"one_row": np.array([-1]), "count": np.array([3])}
    assert tail_of(tmp_path, graph(nodes, {"rows": [9, 4]}, {"out": [3, 4]}, constants)) == ["corners"]


def test_an_ordinary_network_has_none(tmp_path):
    assert tail_of(tmp_path, classifier()) == []


def test_it_stays_in_float_and_says_why(tmp_path):
    model = classifier()
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("sums", 1, ["batch", CLASSES]))
    model.graph.node.extend(
        [
            helper.make_node("Softmax", ["logits"], ["shares"]),
            helper.make_node("MatMul", ["shares", "places"], ["sums"], "sum"),
        ]
    )
    places = helper.make_tensor("places", 1, [CLASSES, CLASSES], [1.0] * CLASSES**2)
    model.graph.initializer.append(places)
    site = RecipeSite(tmp_path, model)
    placement, kept = placement_asked_for(
        open_setting(load_recipe(site.recipe('[quantize]\nkeep = ["first"]')))
    )
    assert kept == {"sum": "decode tail", "first": "asked for"}
    assert placement.layers == ("second", "last")
