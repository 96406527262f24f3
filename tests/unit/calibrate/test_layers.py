import numpy as np
import pytest

from edgert.calibrate.quantize.layers import matching, weighted_layers
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import inverted_residual, node, parameters, plain, random, read


def only_layer(tmp_path, operator, shape, data, *, bias=None, **attributes):
    """Return the layers of a model with one weighted node."""
    constants = {"w": random(*shape)} | ({} if bias is None else {"b": bias})
    outputs = [None] * (len(data) if len(shape) > 1 else len(data) - 1)
    nodes = [node(operator, ["x", *constants], ["y"], "layer", **attributes)]
    model = read(tmp_path, graph(nodes, {"x": data}, {"y": outputs}, constants))
    return weighted_layers(model.graph())


@pytest.mark.parametrize(
    ("operator", "shape", "data", "attributes", "axis"),
    [
        ("Conv", (5, 3, 2, 2), [1, 3, 4, 4], {}, 0),
        ("Conv", (5, 3, 2), [1, 3, 4], {}, 0),
        ("ConvTranspose", (3, 5, 2, 2), [1, 3, 4, 4], {}, 1),
        ("MatMul", (4, 5), [1, 2, 4], {}, 1),
        ("Gemm", (4, 5), [1, 4], {}, 1),
        ("Gemm", (5, 4), [1, 4], {"transB": 1}, 0),
    ],
)
def test_the_output_channels_lie_where_the_operator_has_them(
    tmp_path, operator, shape, data, attributes, axis
):
    [layer] = only_layer(tmp_path, operator, shape, data, **attributes)
    assert (layer.operator, layer.activation, layer.output) == (operator, "x", "y")
    assert layer.weights.shape == shape
    assert layer.weights.shape[layer.channel_axis] == 5
    assert layer.channel_axis == axis
    assert layer.bias is None


def test_a_layer_tells_its_bias_and_its_groups(tmp_path):
    bias = random(6)
    [layer] = only_layer(tmp_path, "Conv", (6, 2, 1, 1), [1, 4, 3, 3], bias=bias, group=2)
    np.testing.assert_array_equal(layer.bias, bias)
    assert layer.groups == 2


def test_a_bias_that_is_computed_is_none(tmp_path):
    nodes = [
        node("ReduceMean", ["x"], ["b"], axes=[0, 2, 3], keepdims=0),
        node("Conv", ["x", "w", "b"], ["y"], "layer"),
    ]
    model = graph(nodes, {"x": [1, 3, 4, 4]}, {"y": [1, 3, 3, 3]}, {"w": random(3, 3, 2, 2)})
    [layer] = weighted_layers(read(tmp_path, model).graph())
    assert layer.bias is None


@pytest.mark.parametrize(
    ("operator", "shape", "data", "attributes"),
    [
        ("Gemm", (4, 5), [4, 3], {"transA": 1}),  # its channels are on the batch axis
        ("MatMul", (2, 4, 5), [2, 3, 4], {}),  # a weight for each item of a batch
        ("MatMul", (4,), [2, 3, 4], {}),
    ],
)
def test_products_that_int8_does_not_serve_are_no_layers(tmp_path, operator, shape, data, attributes):
    assert only_layer(tmp_path, operator, shape, data, **attributes) == []


def test_weights_on_the_left_are_no_layer(tmp_path):
    model = graph([node("MatMul", ["w", "x"], ["y"])], {"x": [4, 3]}, {"y": [2, 3]}, {"w": random(2, 4)})
    assert weighted_layers(read(tmp_path, model).graph()) == []


def test_an_operator_of_another_domain_is_no_layer():
    import onnx_graphsurgeon as gs

    nodes = [node("Conv", ["x", "w"], ["y"], "theirs", domain="acme")]
    shapes = {"x": [1, 3, 4, 4]}, {"y": [1, 3, 4, 4]}
    model = graph(nodes, *shapes, {"w": random(3, 3, 1, 1)}, domains=["acme"])
    assert weighted_layers(gs.import_onnx(model)) == []


def test_layers_come_in_the_order_of_the_graph(tmp_path):
    layers = weighted_layers(read(tmp_path, inverted_residual()).graph())
    assert [layer.name for layer in layers] == ["stem", "expand", "depthwise", "project", "head"]


def test_layers_are_found_by_pattern_and_by_operator(tmp_path):
    layers = weighted_layers(read(tmp_path, inverted_residual()).graph())
    assert list(matching(layers, ["*pr*ect", "he?d"], ())) == ["project", "head"]
    assert list(matching(layers, ["nothing*"], ())) == []
    assert list(matching(layers, (), ["Conv"])) == [layer.name for layer in layers]
    assert list(matching(layers, ["stem"], ["Gemm"])) == ["stem"]
    assert list(matching(layers, ["STEM"], ())) == []


def test_weights_are_read_only_where_they_are_asked_for(tmp_path):
    """A graph of a model with 100 MB of weights is taken many times."""
    graph_of = read(tmp_path, plain()).graph()
    [one, two] = weighted_layers(graph_of)
    assert "LazyValues" in repr(one.node.inputs[1]._values)
    assert one.weights.shape == (4, 3, 3, 3)
    assert "LazyValues" in repr(two.node.inputs[1]._values)
    assert set(parameters(two=(5, 4, 1, 1))) == {tensor.name for tensor in two.node.inputs[1:]}
