"""FP16 inside, FP32 outside."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgert.build.onnx_file import read_onnx
from edgert.build.precision import to_fp16
from edgert.errors import ModelError
from tests.fakes.onnx_graphs import checked, convolution, graph, run, save

PICTURE = {"image": np.linspace(0, 255, 3 * 16 * 16, dtype=np.float32).reshape(1, 3, 16, 16)}


def half(tmp_path, model):
    return checked(to_fp16(read_onnx(save(tmp_path, model))).model)


def test_weights_are_fp16_and_what_is_outside_is_fp32(tmp_path):
    model = convolution()
    converted = half(tmp_path, model)
    assert {weights.data_type for weights in converted.graph.initializer} == {TensorProto.FLOAT16}
    outside = [*converted.graph.input, *converted.graph.output]
    assert {tensor.type.tensor_type.elem_type for tensor in outside} == {TensorProto.FLOAT}
    before, after = run(model, PICTURE)["logits"], run(converted, PICTURE)["logits"]
    assert not np.array_equal(before, after)
    assert np.allclose(before, after, rtol=0.02, atol=0.01)


def test_the_file_that_was_read_stays_as_it_is(tmp_path):
    file = read_onnx(save(tmp_path, convolution()))
    before = file.message()
    assert to_fp16(file).message() != before
    assert file.message() == before


def test_two_nodes_that_stay_fp32_may_read_the_same_tensor(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Max", ["positive", "two"], ["high"]),
        helper.make_node("Min", ["positive", "two"], ["low"]),
        helper.make_node("Add", ["high", "low"], ["y"]),
    ]
    model = graph(nodes, {"x": ["n", 4]}, {"y": ["n", 4]}, {"two": np.array([2.0], np.float32)})
    given = {"x": np.array([[-1, 1, 2, 3]], np.float32)}
    assert run(half(tmp_path, model), given)["y"].tolist() == run(model, given)["y"].tolist()


def test_an_output_may_be_read_inside(tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    model = graph(nodes, {"x": ["n", 2]}, {"y": ["n", 2], "z": ["n", 2]})
    assert run(half(tmp_path, model), {"x": np.array([[1, -1]], np.float32)})["z"].tolist() == [[-1, 0]]


def test_a_model_that_cannot_be_converted_is_named(tmp_path):
    nodes = [helper.make_node("MagicNorm", ["x"], ["y"], domain="com.acme")]
    model = graph(nodes, {"x": [1, 2]}, {"y": [1, 2]}, domains=["com.acme"])
    file = read_onnx(save(tmp_path, model))
    broken = onnx.ModelProto()
    broken.CopyFrom(file.model)
    broken.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ModelError, match=r"model.onnx: onnxruntime's converter cannot turn it into FP16: "):
        to_fp16(file.with_model(broken))
