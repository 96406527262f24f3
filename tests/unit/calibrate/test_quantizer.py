import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgert.calibrate.quantize.placement import place
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.calibrate.quantize.weights import LEVELS, quantize_weights
from edgert.errors import ModelError
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import (
    conv,
    conv_simulated,
    fake_quantized,
    inverted_residual,
    node,
    parameters,
    plain,
    random,
    read,
    residual_of_two,
    run,
    transposed_simulated,
)

AMAX = 2.5  # of normal values, so that some are clipped


def quantized(tmp_path, model, means=None, amax=AMAX):
    """Return the INT8 model and the FP32 one as it was read."""
    source = read(tmp_path, model)
    placement = place(source.graph())
    amaxes = dict.fromkeys(placement.tensors, amax)
    return Quantizer(source, means or {}).quantize(placement, amaxes), source


def constants_of(proto):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def restored(weights, axis):
    values, scales = quantize_weights(weights, axis)
    return values.astype(np.float64) * scales.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])


def layer_model(operator, weights, data, rank, *, bias=True, **attributes):
    outs = weights.shape[0 if operator == "Conv" or attributes.get("transB") else 1]
    groups = attributes.get("group", 1) if operator == "ConvTranspose" else 1
    constants = {"w": weights} | ({"b": random(outs * groups, seed=7)} if bias else {})
    nodes = [node(operator, ["x", *constants], ["y"], "layer", **attributes)]
    return graph(nodes, {"x": data}, {"y": [None] * rank}, constants)


def check_against_simulation(tmp_path, model, data, simulated):
    """Compare onnxruntime, with and without its own fusions, with NumPy in FP64."""
    proto, _source = quantized(tmp_path, model)
    activation = fake_quantized(data, np.float32(AMAX / LEVELS))
    expected = simulated(activation)
    exact = run(model, {"x": data})[0]
    assert np.abs(expected - exact).max() > 1e-3  # rounding shows
    for optimized in (False, True):
        [actual] = run(proto, {"x": data}, optimized=optimized)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


# Numerics


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((5, 4, 3, 3), {}),
        ((5, 4, 3, 3), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
        ((6, 2, 3, 2), {"group": 2, "dilations": [1, 2]}),
        ((4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
        ((8, 1, 1, 1), {"group": 4}),
    ],
)
def test_a_convolution_is_what_numpy_makes_of_it(tmp_path, shape, attributes):
    weights, data = random(*shape), random(2, 4, 7, 6, seed=1)
    model = layer_model("Conv", weights, ["n", 4, 7, 6], 4, **attributes)
    bias = random(shape[0], seed=7)[:, None, None]

    def simulated(activation):
        return conv_simulated(activation, restored(weights, 0), **attributes) + bias

    check_against_simulation(tmp_path, model, data, simulated)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [((4, 3, 2, 2), {"strides": [2, 2]}), ((4, 3, 3, 2), {"group": 2}), ((4, 1, 2, 2), {"group": 4})],
)
def test_a_transposed_convolution_is_what_numpy_makes_of_it(tmp_path, shape, attributes):
    weights, data = random(*shape), random(1, 4, 3, 5, seed=1)
    model = layer_model("ConvTranspose", weights, ["n", 4, 3, 5], 4, **attributes)
    bias = random(shape[1] * attributes.get("group", 1), seed=7)[:, None, None]

    def simulated(activation):
        return transposed_simulated(activation, restored(weights, 1), **attributes) + bias

    check_against_simulation(tmp_path, model, data, simulated)


@pytest.mark.parametrize(
    "attributes", [{}, {"alpha": 0.5, "beta": 2.0}, {"transB": 1}, {"transB": 1, "alpha": 3.0}]
)
def test_a_gemm_is_what_numpy_makes_of_it(tmp_path, attributes):
    is_turned = attributes.get("transB", 0)
    weights, data = random(*((3, 8) if is_turned else (8, 3))), random(5, 8, seed=1)
    model = layer_model("Gemm", weights, ["n", 8], 2, **attributes)

    def simulated(activation):
        matrix = restored(weights, 0).T if is_turned else restored(weights, 1)
        product = attributes.get("alpha", 1) * (activation @ matrix)
        return product + attributes.get("beta", 1) * random(3, seed=7)

    check_against_simulation(tmp_path, model, data, simulated)


@pytest.mark.parametrize("lead", [(5,), (2, 5), (2, 2, 5)])
def test_a_product_is_what_numpy_makes_of_it(tmp_path, lead):
    weights, data = random(8, 3), random(*lead, 8, seed=1)
    model = layer_model("MatMul", weights, [*lead, 8], len(lead) + 1, bias=False)
    check_against_simulation(tmp_path, model, data, lambda activation: activation @ restored(weights, 1))


@pytest.mark.parametrize("make", [plain, inverted_residual, residual_of_two])
def test_a_whole_model_comes_near_the_float_one(tmp_path, make):
    model, picture = make(batch=2, side=5) if make is plain else make(), random(2, 3, 5, 5)
    proto, _source = quantized(tmp_path, model, amax=12.0)
    [exact] = run(model, {"image": picture})
    plainly, fused = (run(proto, {"image": picture}, optimized=each)[0] for each in (False, True))
    span = np.abs(exact).max()
    assert 0 < np.abs(plainly - exact).max() < 0.2 * span
    np.testing.assert_allclose(fused, plainly, atol=0.1 * span)


def test_the_scale_is_a_127th_of_the_threshold(tmp_path):
    source = read(tmp_path, plain())
    proto = Quantizer(source, {}).quantize(place(source.graph()), {"image": 12.7, "positive": 1.0})
    constants = constants_of(proto)
    assert constants["image/scale"] == np.float32(0.1)
    assert constants["positive/scale"] == np.float32(1 / 127)
    assert constants["image/zero"].dtype == np.int8
    assert not constants["image/zero"].any()


def test_dead_channels_give_their_bias(tmp_path):
    weights = random(4, 3, 1, 1)
    weights[1] = 0
    proto, _source = quantized(tmp_path, layer_model("Conv", weights, ["n", 3, 4, 4], 4))
    [out] = run(proto, {"x": random(1, 3, 4, 4)})
    np.testing.assert_allclose(out[:, 1], random(4, seed=7)[1], rtol=1e-6)


def test_means_correct_the_bias(tmp_path):
    """Over an input that is constant, and is a level itself, nothing of the rounding is left."""
    weights, level = random(4, 3, 3, 3), np.float32(50 * np.float32(AMAX / LEVELS))
    model = layer_model("Conv", weights, ["n", 3, 5, 5], 4)
    data = np.full((1, 3, 5, 5), level)
    means = {"x": np.full(3, level)}
    [exact] = run(model, {"x": data})
    [wrong] = run(quantized(tmp_path, model)[0], {"x": data})
    [right] = run(quantized(tmp_path, model, means)[0], {"x": data})
    assert np.abs(wrong - exact).max() > 1e-3
    np.testing.assert_allclose(right, exact, atol=1e-5)


# What is in the file


def test_weights_are_int8_and_biases_fp32(tmp_path):
    proto, source = quantized(tmp_path, inverted_residual(), {"image": random(3)})
    layers = {each.input[1]: each for each in proto.graph.node if each.op_type == "Conv"}
    makers = {output: each for each in proto.graph.node for output in each.output}
    constants = constants_of(proto)
    assert len(layers) == 5
    for weights, layer in layers.items():
        assert makers[weights].op_type == "DequantizeLinear"
        assert constants[makers[weights].input[0]].dtype == np.int8
        assert constants[makers[weights].input[1]].shape == constants[makers[weights].input[0]].shape[:1]
        assert constants[layer.input[2]].dtype == np.float32
    floats = [values for values in constants.values() if values.dtype == np.float32]
    assert max(values.ndim for values in floats) == 1  # no copy of the weights
    assert {"stem.w", "stem.b"} <= {tensor.name for tensor in source.proto.graph.initializer}
    assert not {"stem.w", "stem.b"} & set(constants)


def test_every_constant_is_read(tmp_path):
    proto, _source = quantized(tmp_path, inverted_residual())
    assert set(constants_of(proto)) <= {tensor for each in proto.graph.node for tensor in each.input}


@pytest.mark.parametrize("make", [plain, inverted_residual, residual_of_two])
def test_the_checker_passes_it(tmp_path, make):
    proto, _source = quantized(tmp_path, make())
    onnx.checker.check_model(proto, full_check=True)
    assert proto.producer_name == "edgert"


@pytest.mark.parametrize(
    "make",
    [
        plain,
        inverted_residual,
        residual_of_two,
        lambda: layer_model("ConvTranspose", random(4, 3, 2, 2), ["n", 4, 3, 5], 4, strides=[2, 2]),
        lambda: layer_model("Gemm", random(8, 3), ["n", 8], 2),
        lambda: layer_model("Gemm", random(3, 8), ["n", 8], 2, transB=1, alpha=0.5),
        lambda: layer_model("MatMul", random(8, 3), ["n", 5, 8], 3, bias=False),
    ],
    ids=["plain", "mobilenet", "resnet", "transposed", "gemm", "gemm-turned", "matmul"],
)
def test_tensorrt_parses_it(tmp_path, make):
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13")
    from tests.gpu.plans import shared_logger

    proto, _source = quantized(tmp_path, make(), amax=3.0)
    builder = trt.Builder(shared_logger())
    network = builder.create_network()
    parser = trt.OnnxParser(network, shared_logger())
    assert parser.parse(proto.SerializeToString()), parser.get_error(0).desc()
    kinds = [network.get_layer(index).type for index in range(network.num_layers)]
    pairs = sum(each.op_type == "DequantizeLinear" for each in proto.graph.node)
    assert kinds.count(trt.LayerType.DEQUANTIZE) == pairs


def test_shared_weights_are_written_once(tmp_path):
    nodes = [
        node("Conv", ["image", "w", "b"], ["middle"], "one"),
        node("Relu", ["middle"], ["positive"]),
        node("Conv", ["positive", "w", "b"], ["out"], "two"),
    ]
    constants = {"w": random(3, 3, 1, 1), "b": random(3)}
    model = graph(nodes, {"image": ["n", 3, 4, 4]}, {"out": ["n", 3, 4, 4]}, constants)
    means = {"image": random(3, seed=1), "positive": random(3, seed=2)}
    proto, _source = quantized(tmp_path, model, means)
    one, two = (each for each in proto.graph.node if each.op_type == "Conv")
    assert one.input[1] == two.input[1]
    assert sum(values.dtype == np.int8 and values.ndim == 4 for values in constants_of(proto).values()) == 1
    biases = [constants_of(proto)[each.input[2]] for each in (one, two)]
    assert np.abs(biases[0] - biases[1]).max() > 0  # each corrected by its own input


def test_weights_that_are_shared_and_turned_have_two_sets_of_scales(tmp_path):
    nodes = [
        node("Gemm", ["x", "w"], ["middle"], "one"),
        node("Relu", ["middle"], ["positive"]),
        node("Gemm", ["positive", "w"], ["y"], "two", transB=1),
    ]
    weights = random(4, 4) * np.array([1, 2, 3, 4], np.float32)
    model = graph(nodes, {"x": ["n", 4]}, {"y": ["n", 4]}, {"w": weights})
    proto, _source = quantized(tmp_path, model, amax=20.0)
    axes = [
        helper.get_attribute_value(each.attribute[0])
        for each in proto.graph.node
        if each.op_type == "DequantizeLinear" and each.attribute
    ]
    assert sorted(axes) == [0, 1]
    data = random(3, 4, seed=1)
    [exact], [near] = run(model, {"x": data}), run(proto, {"x": data})
    assert np.abs(near - exact).max() < 0.05 * np.abs(exact).max()


def test_weights_that_stay_in_use_stay(tmp_path):
    """They are an output of the graph, and what another node reads."""
    nodes = [
        node("Conv", ["image", "w"], ["maps"], "layer"),
        node("ReduceMax", ["w"], ["largest"], keepdims=0),
        node("ReduceMean", ["image"], ["mean"], keepdims=0),
        node("Add", ["largest", "mean"], ["sum"]),
    ]
    shapes = {"image": ["n", 3, 4, 4]}, {"maps": ["n", 3, 4, 4], "sum": [], "w": [3, 3, 1, 1]}
    weights = random(3, 3, 1, 1)
    proto, _source = quantized(tmp_path, graph(nodes, *shapes, {"w": weights}))
    outputs = run(proto, {"image": random(1, 3, 4, 4)})
    np.testing.assert_array_equal(outputs[2], weights)
    assert any(values.dtype == np.int8 and values.ndim == 4 for values in constants_of(proto).values())


def test_a_tensor_that_is_an_output_too_stays_in_float(tmp_path):
    model = plain()
    model.graph.output.append(helper.make_tensor_value_info("positive", TensorProto.FLOAT, ["n", 4, 6, 6]))
    proto, _source = quantized(tmp_path, model, amax=0.5)
    makers = {output: each.op_type for each in proto.graph.node for output in each.output}
    assert makers["positive"] == "Relu"
    assert run(proto, {"image": random(1, 3, 6, 6)})[1].max() > 0.5  # not clipped


def test_new_names_collide_with_none(tmp_path):
    nodes = [
        node("Conv", ["image", "image/scale", "one/bias"], ["image/zero"], "one"),
        node("Relu", ["image/zero"], ["image/QuantizeLinear"], "image/QuantizeLinear/node"),
        node("Conv", ["image/QuantizeLinear", "w", "one/bias"], ["out"], "two"),
    ]
    constants = {"image/scale": random(3, 3, 1, 1), "one/bias": random(3), "w": random(3, 3, 1, 1, seed=4)}
    model = graph(nodes, {"image": ["n", 3, 4, 4]}, {"out": ["n", 3, 4, 4]}, constants)
    means = {"image": random(3), "image/QuantizeLinear": random(3)}
    proto, _source = quantized(tmp_path, model, means, amax=10.0)
    onnx.checker.check_model(proto, full_check=True)
    names = [each.name for each in proto.graph.node]
    assert len(set(names)) == len(names)
    made = [output for each in proto.graph.node for output in each.output] + list(constants_of(proto))
    assert len(set(made)) == len(made)
    data = {"image": random(1, 3, 4, 4)}
    [exact], [near] = run(model, data), run(proto, data)
    assert np.abs(near - exact).max() < 0.2 * np.abs(exact).max()


def test_the_float_model_is_not_changed(tmp_path):
    source = read(tmp_path, inverted_residual())
    before = source.proto.SerializeToString(deterministic=True)
    placement = place(source.graph())
    quantizer = Quantizer(source, {"image": random(3)})
    one = quantizer.quantize(placement, dict.fromkeys(placement.tensors, 1.0))
    assert source.proto.SerializeToString(deterministic=True) == before
    again = quantizer.quantize(placement, dict.fromkeys(placement.tensors, 1.0))
    assert one.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


def test_only_what_is_placed_is_quantized(tmp_path):
    source = read(tmp_path, inverted_residual())
    alone = Quantizer(source, {}).quantize(place(source.graph()).only("depthwise"), {"clipped": 6.0})
    kinds = [each.op_type for each in alone.graph.node]
    assert kinds.count("QuantizeLinear") == 1
    assert kinds.count("DequantizeLinear") == 2
    assert constants_of(alone)["stem.w"].dtype == np.float32


def test_a_bias_of_another_layer_is_not_touched(tmp_path):
    """A float layer shares the bias with a corrected one."""
    nodes = [
        conv("one", "image", "a"),
        node("Conv", ["image", "v", "one.b"], ["b"], "two"),
        node("Sub", ["a", "b"], ["out"]),
    ]
    constants = parameters(one=(4, 3, 1, 1)) | {"v": random(4, 3, 1, 1, seed=5)}
    source = read(tmp_path, graph(nodes, {"image": ["n", 3, 4, 4]}, {"out": ["n", 4, 4, 4]}, constants))
    placement = place(source.graph(), kept=["two"])
    proto = Quantizer(source, {"image": random(3) + 1}).quantize(placement, {"image": 3.0})
    one, two = (each for each in proto.graph.node if each.op_type == "Conv")
    np.testing.assert_array_equal(constants_of(proto)[two.input[2]], constants["one.b"])
    assert np.abs(constants_of(proto)[one.input[2]] - constants["one.b"]).max() > 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_told(tmp_path, value):
    weights = random(4, 3, 1, 1)
    weights[2, 1] = value
    with pytest.raises(ModelError, match=r"model\.onnx: the weights of layer layer hold NaN or Inf"):
        quantized(tmp_path, layer_model("Conv", weights, ["n", 3, 4, 4], 4))
