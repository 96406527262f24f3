import pytest

from edgert.build.onnx_file import read_onnx
from edgert.calibrate.quantize.simplify import simplify
from edgert.errors import ModelError
from tests.fakes.onnx_graphs import graph, save
from tests.unit.calibrate.tiny_models import node, random


def test_constant_parts_are_folded_and_unused_operator_sets_dropped(tmp_path):
    nodes = [node("Add", ["a", "b"], ["w"]), node("MatMul", ["x", "w"], ["y"], "product")]
    constants = {"a": random(4, 3), "b": random(4, 3, seed=1)}
    model = graph(nodes, {"x": ["n", 4]}, {"y": ["n", 3]}, constants, domains=["acme"])
    plain = simplify(read_onnx(save(tmp_path, model)))
    assert [(each.op_type, each.name) for each in plain.graph.node] == [("MatMul", "product")]
    assert [tensor.dims for tensor in plain.graph.initializer] == [[4, 3]]
    assert [(entry.domain, entry.version) for entry in plain.opset_import] == [("", 17)]
    assert plain.ir_version == model.ir_version


def test_what_onnxruntime_cannot_run_is_told_in_one_line(tmp_path):
    nodes = [node("Mystery", ["x"], ["y"], domain="acme")]
    model = graph(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, domains=["acme"])
    with pytest.raises(
        ModelError, match=r"model\.onnx: onnxruntime cannot run it, .*Export the model"
    ) as told:
        simplify(read_onnx(save(tmp_path, model)))
    assert "\n" not in str(told.value)
