"""Tiny FP32 models for what quantizes them, and what INT8 has to give, in plain NumPy."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnxruntime
from onnx import helper

from edgert.calibrate.quantize.float_model import read_float_model
from tests.fakes.onnx_graphs import graph, save

node = helper.make_node


def random(*shape, seed=0):
    """Return normal FP32 values."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def read(folder, model):
    """Return a model as it is read for quantization."""
    return read_float_model(save(folder, model))


def conv(name, data, output, **attributes):
    """Return a convolution whose weights and bias are called after it."""
    return node("Conv", [data, f"{name}.w", f"{name}.b"], [output], name, **attributes)


def parameters(**shapes):
    """Return weights `name.w` of these shapes and biases `name.b`."""
    constants = {}
    for seed, (name, shape) in enumerate(shapes.items()):
        constants[f"{name}.w"] = random(*shape, seed=seed)
        constants[f"{name}.b"] = random(shape[0], seed=seed + 100)
    return constants


def plain(*, batch="batch", side=6):
    """Return conv, Relu, conv over (batch, 3, side, side)."""
    nodes = [
        conv("one", "image", "maps", pads=[1, 1, 1, 1]),
        node("Relu", ["maps"], ["positive"], "relu"),
        conv("two", "positive", "out"),
    ]
    constants = parameters(one=(4, 3, 3, 3), two=(5, 4, 1, 1))
    return graph(nodes, {"image": [batch, 3, side, side]}, {"out": [batch, 5, side, side]}, constants)


def inverted_residual():
    """Return two blocks as MobileNetV2 has: the second adds its input to its projection."""
    nodes = [
        conv("stem", "image", "block"),
        conv("expand", "block", "wide"),
        node("Clip", ["wide", "low", "high"], ["clipped"], "clip"),
        conv("depthwise", "clipped", "deep", group=6, pads=[1, 1, 1, 1]),
        node("Clip", ["deep", "low", "high"], ["deep_clipped"], "clip_2"),
        conv("project", "deep_clipped", "narrow"),
        node("Add", ["block", "narrow"], ["sum"], "add"),
        conv("head", "sum", "out"),
    ]
    shapes = {"stem": (4, 3, 1, 1), "expand": (6, 4, 1, 1), "depthwise": (6, 1, 3, 3)}
    constants = parameters(**shapes, project=(4, 6, 1, 1), head=(2, 4, 1, 1))
    constants |= {"low": np.float32(0), "high": np.float32(6)}
    return graph(nodes, {"image": ["n", 3, 5, 5]}, {"out": ["n", 2, 5, 5]}, constants)


def residual_of_two():
    """Return a block as ResNet has where it narrows: two convolutions added, then Relu."""
    nodes = [
        conv("main", "image", "deep", pads=[1, 1, 1, 1]),
        conv("shortcut", "image", "short"),
        node("Add", ["deep", "short"], ["sum"], "add"),
        node("Relu", ["sum"], ["positive"], "relu"),
        conv("next", "positive", "out"),
    ]
    constants = parameters(main=(4, 3, 3, 3), shortcut=(4, 3, 1, 1), next=(2, 4, 1, 1))
    return graph(nodes, {"image": ["n", 3, 5, 5]}, {"out": ["n", 2, 5, 5]}, constants)


def run(model, inputs, *, optimized=True):
    """Return what onnxruntime makes of the inputs: the outputs in a list."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def fake_quantized(values, scale):
    """Return values as symmetric INT8 keeps them; `scale` broadcasts."""
    return np.clip(np.rint(values.astype(np.float64) / scale), -128, 127) * scale


def conv_simulated(data_nchw, weights, *, group=1, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1)):
    """Return a convolution in FP64, by its definition."""
    padded = np.pad(data_nchw, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    count, _channels, height, width = padded.shape
    outs, ins, *kernel = weights.shape
    rows, columns = (
        (side - dilation * (length - 1) - 1) // stride + 1
        for side, dilation, length, stride in zip((height, width), dilations, kernel, strides, strict=True)
    )
    out = np.zeros((count, outs, rows, columns))
    for index in range(outs):
        first = index // (outs // group) * ins
        for y, x in product(range(kernel[0]), range(kernel[1])):
            top, left = y * dilations[0], x * dilations[1]
            seen = padded[:, first : first + ins, top :: strides[0], left :: strides[1]][..., :rows, :columns]
            out[:, index] += np.einsum("nihw,i->nhw", seen, weights[index, :, y, x])
    return out


def transposed_simulated(data_nchw, weights, *, group=1, strides=(1, 1)):
    """Return a transposed convolution in FP64, by its definition: each value paints the kernel."""
    count, channels, height, width = data_nchw.shape
    _ins, outs, *kernel = weights.shape
    shape = (height - 1) * strides[0] + kernel[0], (width - 1) * strides[1] + kernel[1]
    out = np.zeros((count, outs * group, *shape))
    for channel, y, x in product(range(channels), range(height), range(width)):
        first, top, left = channel // (channels // group) * outs, y * strides[0], x * strides[1]
        painted = data_nchw[:, channel, y, x, None, None, None] * weights[channel]
        out[:, first : first + outs, top : top + kernel[0], left : left + kernel[1]] += painted
    return out
