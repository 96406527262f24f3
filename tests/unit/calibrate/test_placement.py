import pytest

from edgert.calibrate.quantize.placement import Edge, place
from edgert.calibrate.quantize.quantizer import Quantizer
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import (
    conv,
    inverted_residual,
    node,
    parameters,
    plain,
    random,
    read,
    residual_of_two,
)


def placed(tmp_path, model, kept=()):
    return place(read(tmp_path, model).graph(), kept)


def uses(placement):
    """Return {tensor: the nodes that read it as INT8}."""
    return {tensor: [edge.node for edge in edges] for tensor, edges in placement.edges.items()}


def quantized_nodes(tmp_path, model):
    """Return {output: operator} of the nodes that the quantized model has, and who reads each tensor."""
    source = read(tmp_path, model)
    placement = place(source.graph())
    nodes = Quantizer(source, {}).quantize(placement, dict.fromkeys(placement.tensors, 1.0)).graph.node
    readers = {}
    for each in nodes:
        for tensor in each.input:
            readers.setdefault(tensor, []).append(each.op_type)
    return {output: each.op_type for each in nodes for output in each.output}, readers


def test_nothing_stands_between_a_convolution_and_its_activation(tmp_path):
    _makers, readers = quantized_nodes(tmp_path, inverted_residual())
    assert readers["wide"] == readers["deep"] == ["Clip"]
    assert readers["clipped"] == readers["deep_clipped"] == ["QuantizeLinear"]


def test_nothing_stands_between_a_convolution_and_its_batch_normalisation(tmp_path):
    nodes = [
        conv("c", "image", "maps"),
        node("BatchNormalization", ["maps", "s", "t", "m", "v"], ["normal"]),
        node("Relu", ["normal"], ["positive"], "relu"),
        conv("d", "positive", "out"),
    ]
    constants = parameters(c=(4, 3, 1, 1), d=(2, 4, 1, 1)) | {name: random(4) ** 2 for name in "stmv"}
    model = graph(nodes, {"image": ["n", 3, 5, 5]}, {"out": ["n", 2, 5, 5]}, constants)
    makers, readers = quantized_nodes(tmp_path, model)
    assert sorted(makers.values()).count("Conv") == 2
    assert readers["normal"] == ["Relu"]
    assert placed(tmp_path, model).tensors == ("image", "positive")


def test_a_residual_gets_its_pair_on_the_branch_that_no_convolution_ends(tmp_path):
    placement = placed(tmp_path, inverted_residual())
    assert placement.layers == ("stem", "expand", "depthwise", "project", "head")
    assert uses(placement) == {
        "image": ["stem"],
        "block": ["expand", "add"],  # one pair serves the layer and the addition
        "clipped": ["depthwise"],
        "deep_clipped": ["project"],
        "sum": ["head"],
    }
    assert placement.edges["block"][1] == Edge("add", 0, "project")
    _makers, readers = quantized_nodes(tmp_path, inverted_residual())
    assert readers["narrow"] == ["Add"]
    assert readers["block"] == ["QuantizeLinear"]


def test_of_two_convolutions_that_are_added_the_later_is_fused(tmp_path):
    placement = placed(tmp_path, residual_of_two())
    assert uses(placement) == {"image": ["main", "shortcut"], "deep": ["add"], "positive": ["next"]}
    _makers, readers = quantized_nodes(tmp_path, residual_of_two())
    assert readers["short"] == ["Add"]
    assert readers["deep"] == ["QuantizeLinear"]
    assert readers["sum"] == ["Relu"]


def test_the_order_of_the_branches_does_not_matter(tmp_path):
    model = residual_of_two()
    [add] = (each for each in model.graph.node if each.op_type == "Add")
    add.input[:] = ["short", "deep"]
    assert placed(tmp_path, model).edges["deep"] == (Edge("add", 1, "shortcut"),)


def test_a_kept_layer_takes_its_residual_with_it(tmp_path):
    placement = placed(tmp_path, inverted_residual(), kept=["project"])
    assert uses(placement) == {
        "image": ["stem"],
        "block": ["expand"],
        "clipped": ["depthwise"],
        "sum": ["head"],
    }
    assert "project" not in placement.layers


def test_where_one_of_two_convolutions_is_kept_the_other_is_fused(tmp_path):
    placement = placed(tmp_path, residual_of_two(), kept=["shortcut"])
    assert placement.edges["short"] == (Edge("add", 1, "main"),)
    assert "deep" not in placement.edges
    assert "add" not in str(placed(tmp_path, residual_of_two(), kept=["shortcut", "main"]))


def addition(left, right, *more, outputs=("out",)):
    """Return two tensors added, each of a convolution, `a` or `b`; `more` nodes read them too."""
    makers = {
        "a.maps": conv("a", "image", "a.maps"),
        "b.maps": conv("b", "image", "b.maps"),
        "a.positive": node("Relu", ["a.maps"], ["a.positive"], "a.relu"),
        "b.positive": node("Relu", ["b.maps"], ["b.positive"], "b.relu"),
        "b.mean": node("GlobalAveragePool", ["b.maps"], ["b.mean"], "b.pool"),
    }
    needed = {left, right, *(f"{tensor[0]}.maps" for tensor in (left, right))}
    nodes = [made for tensor, made in makers.items() if tensor in needed]
    nodes += [node("Add", [left, right], ["out"], "add"), *more]
    constants = parameters(a=(4, 3, 1, 1), b=(4, 3, 1, 1))
    shapes = {output: ["n", 4, 5, 5] for output in outputs}
    return graph(nodes, {"image": ["n", 3, 5, 5]}, shapes, constants)


def test_an_addition_of_a_convolution_and_something_else_is_fused(tmp_path):
    assert uses(placed(tmp_path, addition("a.maps", "b.positive"))) == {
        "image": ["a", "b"],
        "b.positive": ["add"],
    }


@pytest.mark.parametrize(
    "model",
    [
        addition("a.positive", "b.positive"),  # no branch is a convolution
        addition("a.maps", "a.maps"),
        addition("a.maps", "b.mean"),  # broadcast
        addition("a.maps", "b.positive", outputs=("out", "a.maps")),  # the convolution is an output itself
        addition("a.maps", "b.positive", node("Sigmoid", ["a.maps"], ["s"]), outputs=("out", "s")),
    ],
    ids=["relus", "itself", "broadcast", "output", "read-twice"],
)
def test_an_addition_that_is_not_fused_gets_nothing(tmp_path, model):
    assert placed(tmp_path, model).tensors == ("image",)


def test_an_addition_after_a_product_gets_nothing(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["product"], "product"),
        node("Relu", ["x"], ["positive"]),
        node("Add", ["product", "positive"], ["out"], "add"),
    ]
    model = graph(nodes, {"x": ["n", 7, 4]}, {"out": ["n", 7, 4]}, {"w": random(4, 4)})
    assert placed(tmp_path, model).tensors == ("x",)


def test_concatenation_and_pooling_are_read_through(tmp_path):
    nodes = [
        conv("a", "image", "a.maps"),
        conv("b", "image", "b.maps"),
        node("Concat", ["a.maps", "b.maps"], ["both"], "concat", axis=1),
        node("MaxPool", ["both"], ["pooled"], "pool", kernel_shape=[2, 2]),
        conv("c", "pooled", "out"),
    ]
    constants = parameters(a=(2, 3, 1, 1), b=(2, 3, 1, 1), c=(2, 4, 1, 1))
    model = graph(nodes, {"image": ["n", 3, 5, 5]}, {"out": ["n", 2, 4, 4]}, constants)
    assert uses(placed(tmp_path, model)) == {"image": ["a", "b"], "pooled": ["c"]}
    makers, readers = quantized_nodes(tmp_path, model)
    assert sorted(makers.values()).count("QuantizeLinear") == 2
    assert readers["image"] == ["QuantizeLinear"]
    assert readers["a.maps"] == readers["b.maps"] == ["Concat"]
    assert readers["both"] == ["MaxPool"]


def test_thresholds_that_are_missing_leave_layers_in_float(tmp_path):
    placement = placed(tmp_path, inverted_residual())
    assert placement.within(placement.tensors) == placement
    assert placement.within(()).layers == ()
    assert placement.within(()).edges == {}
    without = placement.within({"image", "block", "clipped", "sum"})
    assert without.layers == ("stem", "expand", "depthwise", "head")
    assert uses(without) == {
        "image": ["stem"],
        "block": ["expand"],  # the projection is in float, so its addition is
        "clipped": ["depthwise"],
        "sum": ["head"],
    }


def test_a_residual_without_a_threshold_is_added_in_float(tmp_path):
    placement = placed(tmp_path, residual_of_two()).within({"image", "positive"})
    assert placement.layers == ("main", "shortcut", "next")
    assert uses(placement) == {"image": ["main", "shortcut"], "positive": ["next"]}


def test_one_layer_alone_has_what_is_there_for_it(tmp_path):
    placement = placed(tmp_path, inverted_residual())
    assert placement.only("expand").layers == ("expand",)
    assert uses(placement.only("expand")) == {"block": ["expand"]}
    assert uses(placement.only("project")) == {"deep_clipped": ["project"], "block": ["add"]}


def test_the_tensors_are_sorted(tmp_path):
    assert placed(tmp_path, plain()).tensors == ("image", "positive")
    assert placed(tmp_path, plain(), kept=["one", "two"]).tensors == ()
