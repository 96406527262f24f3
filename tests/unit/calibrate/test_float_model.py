import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgert.calibrate.quantize.float_model import read_float_model
from edgert.calibrate.quantize.layers import weighted_layers
from edgert.calibrate.quantize.placement import place
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.errors import ConfigError, ModelError
from tests.fakes import onnx_graphs
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import conv, node, parameters, plain, random, read, run

PICTURE = random(1, 3, 6, 6)


def same_outputs(model, original, inputs=None):
    inputs = inputs or {"image": PICTURE}
    for new, old in zip(run(model.proto, inputs), run(original, inputs, optimized=False), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)


def normalized(*, opset=17):
    """Return conv, batch normalisation, Relu."""
    nodes = [
        conv("c", "image", "maps"),
        node("BatchNormalization", ["maps", "scale", "shift", "mean", "variance"], ["normal"]),
        node("Relu", ["normal"], ["out"]),
    ]
    constants = parameters(c=(4, 3, 3, 3))
    for name in ("scale", "shift", "mean", "variance"):
        constants[name] = np.abs(random(4, seed=len(name))) + np.float32(0.1)
    return graph(nodes, {"image": ["n", 3, 6, 6]}, {"out": ["n", 4, 4, 4]}, constants, opset=opset)


def as_old_exporters_write(model, ir_version):
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    model.ir_version = ir_version
    return model


def cast(model, kind):
    """Return the model with weights, input and output of another float."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(helper.make_tensor(tensor.name, kind, values.shape, values.reshape(-1).tolist()))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = kind
    return model


# What is made plain


def test_batch_normalisation_goes_into_the_convolution(tmp_path):
    original = normalized()
    model = read(tmp_path, original)
    assert [each.op_type for each in model.proto.graph.node] == ["Conv", "Relu"]
    same_outputs(model, original)


@pytest.mark.parametrize(("opset", "ir_version"), [(9, 3), (9, 4), (13, 8)])
def test_weights_that_old_exporters_list_as_inputs_are_constants(tmp_path, opset, ir_version):
    original = as_old_exporters_write(normalized(opset=opset), ir_version)
    model = read(tmp_path, original)
    assert model.input_name == "image"
    assert [value.name for value in model.proto.graph.input] == ["image"]
    assert [each.op_type for each in model.proto.graph.node] == ["Conv", "Relu"]
    same_outputs(model, original)
    onnx.checker.check_model(model.proto, full_check=True)


def test_opset_9_is_converted_and_quantizes(tmp_path):
    original = plain()
    del original.opset_import[:]
    original.opset_import.append(helper.make_opsetid("", 9))
    model = read(tmp_path, original)
    assert [(entry.domain, entry.version) for entry in model.proto.opset_import] == [("", 13)]
    same_outputs(model, original)
    placement = place(model.graph())
    quantized = Quantizer(model, {}).quantize(placement, dict.fromkeys(placement.tensors, 25.0))
    [exact], [near] = run(original, {"image": PICTURE}), run(quantized, {"image": PICTURE})
    assert 0 < np.abs(near - exact).max() < 0.1 * np.abs(exact).max()


def test_a_newer_opset_stays(tmp_path):
    model = read(tmp_path, normalized(opset=21))
    assert [entry.version for entry in model.proto.opset_import] == [21]


def test_constant_nodes_are_weights(tmp_path):
    original = plain()
    moved = list(original.graph.initializer)
    del original.graph.initializer[:]
    for index, tensor in enumerate(moved):
        original.graph.node.insert(index, node("Constant", [], [tensor.name], value=tensor))
    model = read(tmp_path, original)
    assert [layer.name for layer in weighted_layers(model.graph())] == ["one", "two"]
    same_outputs(model, original)


def test_what_is_computed_from_constants_is_a_constant(tmp_path):
    nodes = [
        node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        node("MatMul", ["x", "turned"], ["out"], "product"),
    ]
    original = graph(nodes, {"x": ["n", 4]}, {"out": ["n", 3]}, {"w": random(3, 4)})
    model = read(tmp_path, original)
    assert [layer.name for layer in weighted_layers(model.graph())] == ["product"]
    same_outputs(model, original, {"x": random(2, 4)})


def test_external_weights_are_read(tmp_path):
    file = tmp_path / "model.onnx"
    onnx.save(plain(), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").is_file()
    same_outputs(read_float_model(file), plain())


def test_a_lost_file_of_weights_is_named(tmp_path):
    file = tmp_path / "model.onnx"
    onnx.save(plain(), file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx: not a usable ONNX file: .*weights\.bin"):
        read_float_model(file)


def test_every_node_gets_a_name_of_its_own(tmp_path):
    nodes = [
        node("Conv", ["image", "one"], ["a"], "same"),
        node("Conv", ["image", "two"], ["b"], "same"),
        node("Conv", ["image", "three"], ["c"]),
        node("Relu", ["c"], ["d"], "Conv_2"),
        node("Concat", ["a", "b", "d"], ["out"], axis=1),
    ]
    constants = {name: random(2, 3, 1, 1, seed=seed) for seed, name in enumerate(("one", "two", "three"))}
    original = graph(nodes, {"image": ["n", 3, 6, 6]}, {"out": ["n", 6, 6, 6]}, constants)
    model = read(tmp_path, original)
    names = [each.name for each in model.proto.graph.node]
    assert sorted(names) == ["Concat_4", "Conv_2", "Conv_2_2", "same", "same_2"]
    for each in original.graph.node:
        each.name = ""  # onnxruntime refuses a name that is there twice
    same_outputs(model, original)


def test_names_are_the_same_each_time(tmp_path):
    original = plain()
    for each in original.graph.node:
        each.name = ""
    model, again = read(tmp_path, original), read(tmp_path, original)
    assert [each.name for each in model.proto.graph.node] == [each.name for each in again.proto.graph.node]
    assert [each.name for each in model.graph().nodes] == [each.name for each in model.proto.graph.node]


def test_what_the_file_says_of_itself_stays(tmp_path):
    original = plain()
    original.doc_string, original.domain, original.model_version = "trained on cats", "acme", 7
    original.graph.doc_string = "two layers"
    helper.set_model_props(original, {"names": "cat,dog"})
    model = read(tmp_path, original)
    placement = place(model.graph())
    quantized = Quantizer(model, {}).quantize(placement, dict.fromkeys(placement.tensors, 1.0))
    for proto in (model.proto, quantized):
        assert (proto.doc_string, proto.domain, proto.model_version) == ("trained on cats", "acme", 7)
        assert proto.graph.doc_string == "two layers"
        assert [(each.key, each.value) for each in proto.metadata_props] == [("names", "cat,dog")]
        assert list(proto.graph.output) == list(original.graph.output)


def test_functions_of_the_model_become_nodes(tmp_path):
    function = helper.make_function(
        "acme",
        "Block",
        ["x", "w"],
        ["y"],
        [node("Conv", ["x", "w"], ["maps"], "inside"), node("Relu", ["maps"], ["y"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        node("Block", ["image", "w"], ["middle"], "first", domain="acme"),
        node("Block", ["middle", "v"], ["out"], "second", domain="acme"),
    ]
    constants = {"w": random(4, 3, 1, 1), "v": random(2, 4, 1, 1)}
    shapes = {"image": ["n", 3, 6, 6]}, {"out": ["n", 2, 6, 6]}
    original = graph(nodes, *shapes, constants, domains=["acme"])
    original.functions.append(function)
    model = read(tmp_path, original)
    assert [layer.operator for layer in weighted_layers(model.graph())] == ["Conv", "Conv"]
    assert len({each.name for each in model.proto.graph.node}) == 4
    assert [entry.domain for entry in model.proto.opset_import] == [""]
    same_outputs(model, original)


def test_only_operators_of_onnx_come_out(tmp_path):
    """onnxruntime fuses more than ONNX has operators for; not at this level."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "b"], ["hb"]),
        node("Div", ["hb", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["e1"]),
        node("Mul", ["hb", "e1"], ["m"]),
        node("Mul", ["m", "half"], ["gelu"]),
        node("Sigmoid", ["gelu"], ["s"]),
        node("Mul", ["gelu", "s"], ["silu"]),
        node("Softmax", ["silu"], ["out"]),
    ]
    constants = {"w": random(4, 4), "b": random(4), "root": np.float32(2**0.5), "one": np.float32(1)}
    constants["half"] = np.float32(0.5)
    original = graph(nodes, {"x": ["n", 5, 4]}, {"out": ["n", 5, 4]}, constants)
    model = read(tmp_path, original)
    assert {each.domain for each in model.proto.graph.node} == {""}
    same_outputs(model, original, {"x": random(1, 5, 4)})


def test_shapes_are_known_where_they_can_be(tmp_path):
    model = read(tmp_path, plain(batch="n"))
    shapes = {tensor.name: tensor.shape for tensor in model.graph().tensors().values()}
    assert shapes["maps"] == shapes["positive"] == ["n", 4, 6, 6]


@pytest.mark.parametrize("shape", [["n", 3, 6, 6], [4, 3, 6, 6], ["n", 3, "h", "w"], [None, 3, None, None]])
def test_shapes_may_be_open(tmp_path, shape):
    original = plain()
    for value in (original.graph.input[0], original.graph.output[0]):
        value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, shape))
        if shape[1] == 3 and value is original.graph.output[0]:
            value.type.tensor_type.shape.dim[1].dim_value = 5
    model = read(tmp_path, original)
    side = shape[0] if isinstance(shape[0], int) else 2
    same_outputs(model, original, {"image": random(side, 3, 6, 6)})


def test_a_graph_within_a_node_keeps_its_weights_in_float(tmp_path):
    def branch(name, data):
        output = helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None)
        return helper.make_graph([node("Conv", [data, "w"], [f"{name}.out"], "same")], name, [], [output])

    nodes = [
        node("ReduceMean", ["image"], ["mean"], keepdims=0),
        node("Greater", ["mean", "limit"], ["is_bright"]),
        node("Relu", ["image"], ["positive"]),
        node(
            "If",
            ["is_bright"],
            ["chosen"],
            then_branch=branch("yes", "image"),
            else_branch=branch("no", "positive"),
        ),
        node("Conv", ["image", "w"], ["always"], "same"),
        node("Add", ["chosen", "always"], ["out"], "add"),
    ]
    constants = {"w": random(2, 3, 3, 3), "limit": np.float32(0)}
    original = graph(nodes, {"image": [1, 3, 6, 6]}, {"out": [1, 2, 4, 4]}, constants)
    model = read(tmp_path, original)
    same_outputs(model, original)
    placement = place(model.graph())
    assert len(placement.layers) == 1
    quantized = Quantizer(model, {}).quantize(placement, {"image": 4.0, "chosen": 20.0})
    for picture in (PICTURE, PICTURE - 1, PICTURE + 1):
        [exact], [near] = run(original, {"image": picture}), run(quantized, {"image": picture})
        assert 0 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


# What is refused


@pytest.mark.parametrize(
    ("kind", "name"),
    [(TensorProto.FLOAT16, "FP16"), (TensorProto.BFLOAT16, "BF16"), (TensorProto.DOUBLE, "FP64")],
)
def test_other_floats_are_refused(tmp_path, kind, name):
    with pytest.raises(ModelError, match=rf"holds {name} tensors, expected FP32\. Export"):
        read(tmp_path, cast(plain(), kind))


def test_fp16_within_fp32_is_refused(tmp_path):
    nodes = [
        node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        node("Constant", [], ["w"], value=numpy_helper.from_array(random(4, 3).astype(np.float16))),
        node("MatMul", ["half", "w"], ["product"]),
        node("Cast", ["product"], ["out"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ModelError, match="holds FP16 tensors"):
        read(tmp_path, graph(nodes, {"x": ["n", 4]}, {"out": ["n", 3]}))


def test_a_lone_fp64_number_is_no_reason_to_refuse(tmp_path):
    nodes = [
        node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2.0))),
        node("Cast", ["two"], ["factor"], to=TensorProto.FLOAT),
        node("MatMul", ["x", "w"], ["product"], "product"),
        node("Mul", ["product", "factor"], ["out"]),
    ]
    model = read(tmp_path, graph(nodes, {"x": ["n", 4]}, {"out": ["n", 3]}, {"w": random(4, 3)}))
    assert place(model.graph()).layers == ("product",)


def integer_model():
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        node("MatMulInteger", ["q", "w"], ["sums"]),
        node("Cast", ["sums"], ["out"], to=TensorProto.FLOAT),
    ]
    return graph(nodes, {"x": ["n", 4]}, {"out": ["n", 3]}, {"w": np.ones((4, 3), np.int8)})


@pytest.mark.parametrize("make", [onnx_graphs.quantized, onnx_graphs.quantized_convolution, integer_model])
def test_a_quantized_model_is_refused(tmp_path, make):
    with pytest.raises(ModelError, match=r"is quantized already .*edgert build model\.onnx --precision int8"):
        read(tmp_path, make())


def test_no_input_and_two_inputs_are_refused(tmp_path):
    one = {"out": ["n", 3]}
    two = graph([node("Add", ["a", "b"], ["out"])], {"a": ["n", 3], "b": ["n", 3]}, one)
    with pytest.raises(ModelError, match="has the inputs a, b; edgert calibrates models that take one"):
        read(tmp_path, two)
    none = graph([node("Relu", ["w"], ["out"])], {}, one, {"w": random(1, 3)})
    with pytest.raises(ModelError, match="has the inputs none"):
        read(tmp_path, none)


def test_an_operator_that_nobody_knows_is_named(tmp_path):
    shapes = {"x": ["n", 3]}, {"out": ["n", 3]}
    with pytest.raises(ModelError, match=r"not a usable ONNX file: .*Mystery"):
        read(tmp_path, graph([node("Mystery", ["x"], ["out"])], *shapes))
    foreign = graph([node("Mystery", ["x"], ["out"], domain="acme")], *shapes, domains=["acme"])
    with pytest.raises(ModelError, match=r"onnxruntime cannot run it, .*acme.*Mystery.*Export the model"):
        read(tmp_path, foreign)


def test_an_opset_that_cannot_be_converted_is_told(tmp_path):
    shapes = {"x": [1, 1, 2, 2]}, {"out": [1, 1, 4, 4]}
    model = graph([node("Pad", ["x"], ["out"], paddings=[0, 0, 1, 1, 0, 0, 1, 1])], *shapes, opset=1)
    with pytest.raises(
        ModelError, match=r"has opset 1, expected 13 .* converted: No Adapter .* for Pad\. Exp"
    ):
        read(tmp_path, model)


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.onnx: no such file"):
        read_float_model(tmp_path / "absent.onnx")


def test_a_model_without_constant_weights_has_no_layers(tmp_path):
    nodes = [node("Transpose", ["x"], ["turned"], perm=[1, 0]), node("MatMul", ["x", "turned"], ["out"])]
    model = read(tmp_path, graph(nodes, {"x": [3, 4]}, {"out": [3, 3]}))
    assert place(model.graph()).layers == ()
    assert place(model.graph()).edges == {}
