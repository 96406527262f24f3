import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.calibrate.quantize import weights as weights_module
from edgert.calibrate.quantize.layers import weighted_layers
from edgert.calibrate.quantize.weights import LEVELS, corrected_bias, quantize_weights
from tests.fakes.onnx_graphs import graph
from tests.unit.calibrate.tiny_models import conv_simulated, node, random, read


def errors_of(weights, quantized, scales, axis):
    """Return the squared error of each channel in FP64."""
    sides = [-1 if index == axis else 1 for index in range(weights.ndim)]
    restored = quantized.astype(np.float64) * scales.astype(np.float64).reshape(sides)
    others = tuple(index for index in range(weights.ndim) if index != axis)
    return ((restored - weights) ** 2).sum(axis=others)


def errors_of_max_scaling(weights, axis):
    others = tuple(index for index in range(weights.ndim) if index != axis)
    scales = np.abs(weights).max(axis=others).astype(np.float64) / LEVELS
    scales[scales == 0] = 1
    sides = [-1 if index == axis else 1 for index in range(weights.ndim)]
    return errors_of(weights, np.rint(weights / scales.reshape(sides)), scales, axis)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 16),
    shape=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    axis=st.integers(0, 1),
    power=st.integers(-30, 30),
    tail=st.sampled_from([1, 3, 9]),
)
def test_no_channel_is_worse_than_with_its_largest_weight_as_127(seed, shape, axis, power, tail):
    weights = (random(*shape, seed=seed) ** tail * 10.0**power).astype(np.float32)
    quantized, scales = quantize_weights(weights, axis)
    assert quantized.dtype == np.int8
    assert quantized.shape == weights.shape
    assert scales.dtype == np.float32
    assert scales.shape == (shape[axis],)
    assert np.abs(quantized.astype(int)).max() <= LEVELS
    assert np.isfinite(1 / scales).all()
    largest = np.abs(weights).max(initial=0).astype(np.float64) ** 2
    worst = errors_of_max_scaling(weights, axis) * (1 + 1e-4) + largest * 1e-9
    assert (errors_of(weights, quantized, scales, axis) <= worst).all()


def test_an_outlier_is_clipped_where_that_is_better():
    weights = np.append(random(1, 40_000), [[4.8]], axis=1).astype(np.float32)
    quantized, scales = quantize_weights(weights, 0)
    assert scales[0] < 0.95 * 4.8 / LEVELS
    assert errors_of(weights, quantized, scales, 0) < 0.9 * errors_of_max_scaling(weights, 0)


def test_weights_that_are_levels_stay_what_they_are():
    weights = np.arange(-127, 128, dtype=np.float32).reshape(1, -1) / 64
    quantized, scales = quantize_weights(weights, 0)
    np.testing.assert_array_equal(quantized * scales[:, None], weights)


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38])
def test_a_dead_channel_becomes_zeros_of_scale_1(value):
    weights = np.stack([np.full(8, value), np.arange(8.0)]).astype(np.float32)
    quantized, scales = quantize_weights(weights, 0)
    assert scales[0] == 1
    assert not quantized[0].any()
    assert quantized[1].any()


def test_the_smallest_and_the_largest_weights_have_scales():
    weights = np.array([[3e38, -1e38], [2e-36, 1e-36]], np.float32)
    quantized, scales = quantize_weights(weights, 0)
    assert np.isfinite(scales).all()
    assert (scales >= np.finfo(np.float32).tiny).all()
    np.testing.assert_allclose(quantized * scales[:, None].astype(np.float64), weights, rtol=0.02)


def test_channels_are_quantized_alike_in_blocks_of_any_size(monkeypatch):
    weights = random(7, 3, 2, 2)
    whole = quantize_weights(weights, 0)
    monkeypatch.setattr(weights_module, "_BLOCK", 20)
    for one, other in zip(whole, quantize_weights(weights, 0), strict=True):
        np.testing.assert_array_equal(one, other)


# The bias


def layer_of(tmp_path, operator, shape, *, bias, data, **attributes):
    inputs = ["x", "w"] if bias is None else ["x", "w", "b"]
    constants = {"w": random(*shape)} | ({} if bias is None else {"b": bias})
    outputs = [None] * len(data)
    model = graph([node(operator, inputs, ["y"], "l", **attributes)], {"x": data}, {"y": outputs}, constants)
    [layer] = weighted_layers(read(tmp_path, model).graph())
    return layer


def restored(layer):
    quantized, scales = quantize_weights(layer.weights, layer.channel_axis)
    sides = [-1 if index == layer.channel_axis else 1 for index in range(quantized.ndim)]
    return (quantized, scales), quantized.astype(np.float64) * scales.reshape(sides)


@pytest.mark.parametrize(("groups", "ins"), [(1, 6), (2, 3), (6, 1)])
def test_where_the_input_is_constant_over_space_the_error_of_a_convolution_vanishes(tmp_path, groups, ins):
    bias = random(6, seed=9)
    layer = layer_of(
        tmp_path, "Conv", (6, ins, 3, 3), bias=bias, data=["n", 6, 5, 5], group=groups, dilations=[2, 1]
    )
    means = random(6, seed=5)
    rounded, weights = restored(layer)
    corrected = corrected_bias(layer, *rounded, means)
    picture = np.broadcast_to(means[:, None, None], (1, 6, 5, 5)).astype(np.float64)
    how = {"group": groups, "dilations": (2, 1)}
    exact = conv_simulated(picture, layer.weights.astype(np.float64), **how) + bias[:, None, None]
    wrong = conv_simulated(picture, weights, **how) + bias[:, None, None]
    right = conv_simulated(picture, weights, **how) + corrected[:, None, None]
    assert np.abs(wrong - exact).max() > 1e-3
    np.testing.assert_allclose(right, exact, atol=1e-5)


@pytest.mark.parametrize("attributes", [{}, {"alpha": 3.0, "beta": 0.5}, {"transB": 1, "alpha": -2.0}])
@pytest.mark.parametrize("bias_shape", [(5,), (1, 5), (1,)])
def test_the_mean_error_of_a_gemm_vanishes(tmp_path, attributes, bias_shape):
    shape = (5, 4) if attributes.get("transB") else (4, 5)
    bias = random(*bias_shape, seed=3)
    layer = layer_of(tmp_path, "Gemm", shape, bias=bias, data=["n", 4], **attributes)
    rows = random(50, 4, seed=8) + 2
    rounded, weights = restored(layer)
    corrected = corrected_bias(layer, *rounded, rows.mean(axis=0))

    def product(matrix, added):
        turned = matrix.T if attributes.get("transB") else matrix
        return attributes.get("alpha", 1) * (rows @ turned) + attributes.get("beta", 1) * added

    exact = product(layer.weights, bias).mean(axis=0)
    assert np.abs(product(weights, bias).mean(axis=0) - exact).max() > 1e-3
    np.testing.assert_allclose(product(weights, corrected).mean(axis=0), exact, atol=1e-4)


def test_a_bias_that_counts_nothing_is_left(tmp_path):
    layer = layer_of(tmp_path, "Gemm", (4, 5), bias=random(5), data=["n", 4], beta=0.0)
    assert corrected_bias(layer, *restored(layer)[0], random(4)) is None


def test_a_layer_without_bias_gets_none(tmp_path):
    layer = layer_of(tmp_path, "Conv", (4, 3, 1, 1), bias=None, data=["n", 3, 5, 5])
    assert corrected_bias(layer, *restored(layer)[0], random(3)) is None
    layer = layer_of(
        tmp_path, "ConvTranspose", (3, 4, 2, 2), bias=random(4), data=["n", 3, 5, 5], strides=[2, 2]
    )
    assert corrected_bias(layer, *restored(layer)[0], random(3)) is None  # depends on the place
