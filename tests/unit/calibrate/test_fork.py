"""Several candidates in one model give what each gives alone."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgert.calibrate.quantize.draft import fork, names_in
from edgert.calibrate.quantize.placement import place
from edgert.calibrate.quantize.quantizer import Quantizer
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import conv, inverted_residual, node, parameters, random, read, run

PICTURE = random(1, 3, 5, 5, seed=7)


def answers_of(forked, inputs):
    """Return each candidate's outputs, by the names that it calls them."""
    names = [value.name for value in forked.model.graph.output]
    found = dict(zip(names, run(forked.model, inputs), strict=True))
    return [{name: found[here] for name, here in outputs.items()} for outputs in forked.outputs]


@pytest.fixture
def source(tmp_path):
    return read(tmp_path, inverted_residual())


def test_each_candidate_gives_what_it_gives_alone(source):
    placement = place(source.graph())
    amax = dict.fromkeys(placement.tensors, 4.0)
    quantizer = Quantizer(source, {})
    parts = [placement.only(layer) for layer in placement.layers] + [placement]
    forked = quantizer.fork(parts, amax)
    onnx.checker.check_model(forked.model)
    alone = [run(quantizer.quantize(part, amax), {"image": PICTURE})[0] for part in parts]
    found = [answer["out"] for answer in answers_of(forked, {"image": PICTURE})]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert len({array.tobytes() for array in found}) == len(parts)


def test_what_comes_before_the_difference_is_there_once(source):
    placement = place(source.graph())
    quantizer = Quantizer(source, {})
    forked = quantizer.fork([placement.only("head")] * 2, dict.fromkeys(placement.tensors, 4.0))
    operators = [each.op_type for each in forked.model.graph.node]
    assert operators.count("Conv") == 5 + 2  # head, twice more
    assert operators.count("Clip") == 2


def test_weights_are_there_once(source):
    placement = place(source.graph())
    forked = Quantizer(source, {}).fork([placement.only("stem")] * 3, {"image": 4.0})
    names = [tensor.name for tensor in forked.model.graph.initializer]
    assert len(names) == len(set(names))
    assert names.count("expand.w") == 1


def test_an_output_that_no_candidate_changes_is_the_reference_s(tmp_path):
    nodes = [conv("left", "image", "one"), conv("right", "image", "two")]
    shapes = {"one": ["n", 4, 5, 5], "two": ["n", 2, 5, 5]}
    constants = parameters(left=(4, 3, 1, 1), right=(2, 3, 1, 1))
    source = read(tmp_path, graph(nodes, {"image": ["n", 3, 5, 5]}, shapes, constants))
    placement = place(source.graph())
    forked = Quantizer(source, {}).fork([placement.only("left"), placement.only("right")], {"image": 1.0})
    left, right = forked.outputs
    assert (left["two"], right["one"]) == ("two", "one")
    expected = dict(zip(("one", "two"), run(source.proto, {"image": PICTURE}), strict=True))
    found = answers_of(forked, {"image": PICTURE})
    np.testing.assert_array_equal(found[0]["two"], expected["two"])
    np.testing.assert_array_equal(found[1]["one"], expected["one"])
    assert np.abs(found[0]["one"] - expected["one"]).max() > 0


def branching():
    """Return a model whose If reads, within its branches, what the convolution has made."""

    def branch(name, operator):
        value = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        inner = node(operator, ["maps"], [f"{name}_out"], name)
        return helper.make_graph([inner], name, [], [value])

    nodes = [
        conv("one", "image", "maps"),
        node("ReduceSum", ["maps"], ["total"], "total", keepdims=0),
        node("Greater", ["total", "nothing"], ["is_more"], "more"),
        node(
            "If",
            ["is_more"],
            ["out"],
            "if",
            then_branch=branch("yes", "Relu"),
            else_branch=branch("no", "Neg"),
        ),
    ]
    constants = parameters(one=(4, 3, 1, 1)) | {"nothing": np.float32(0)}
    return graph(nodes, {"image": ["n", 3, 5, 5]}, {"out": ["n", 4, 5, 5]}, constants)


@pytest.mark.parametrize("sign", [1, -1])
def test_graphs_within_nodes_read_what_their_candidate_made(sign):
    reference = branching()
    candidate = onnx.ModelProto()
    candidate.CopyFrom(reference)
    del candidate.graph.initializer[:]
    spoilt = candidate.graph.node.add()
    spoilt.CopyFrom(node("Mul", ["image", "image"], ["square"], "square"))
    candidate.graph.node.insert(0, candidate.graph.node.pop())
    candidate.graph.node[1].input[0] = "square"
    forked = fork(reference, [candidate, candidate], names_in(reference))
    whole = onnx.ModelProto()
    whole.CopyFrom(candidate)
    whole.graph.initializer.extend(reference.graph.initializer)
    [expected] = run(whole, {"image": sign * PICTURE})
    for answer in answers_of(forked, {"image": sign * PICTURE}):
        np.testing.assert_allclose(answer["out"], expected, rtol=1e-5, atol=1e-6)
