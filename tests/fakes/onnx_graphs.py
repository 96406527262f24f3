"""Tiny ONNX models with outputs that are known, for what reads, changes and builds them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(folder, model, name="model.onnx"):
    """Write a model and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def graph(nodes, inputs, outputs, constants=(), *, opset=17, domains=()):
    """Return a model. Nodes are `onnx.helper.make_node`s, tensors {name: shape} of FP32."""

    def tensors(shapes):
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in shapes.items()]

    initializers = [
        numpy_helper.from_array(np.asarray(value), name) for name, value in dict(constants).items()
    ]
    built = helper.make_graph(nodes, "tiny", tensors(inputs), tensors(outputs), initializers)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(built, opset_imports=opsets, ir_version=8)


def always(outputs, *, opset=17, batch="batch", side=8):
    """Return a model that gives these arrays, by name and without the batch axis, for every picture."""
    nodes, constants = [helper.make_node("GlobalAveragePool", ["image"], ["pooled"])], {}
    constants["zero"] = np.zeros((), np.float32)
    constants["first"] = np.zeros(1, np.int64)
    nodes.append(helper.make_node("Gather", ["pooled", "first"], ["one"], axis=1))
    nodes.append(helper.make_node("Mul", ["one", "zero"], ["zeros"]))  # (batch, 1, 1, 1)
    for name, value in outputs.items():
        constants[f"fixed {name}"] = value[None].astype(np.float32)
        constants[f"rank {name}"] = np.array([0, *[1] * value.ndim], np.int64)
        nodes.append(helper.make_node("Reshape", ["zeros", f"rank {name}"], [f"shaped {name}"]))
        nodes.append(helper.make_node("Add", [f"fixed {name}", f"shaped {name}"], [name]))
    shapes = {name: [batch, *value.shape] for name, value in outputs.items()}
    return graph(nodes, {"image": [batch, 3, side, side]}, shapes, constants, opset=opset)


def scaled(factor=2.0, *, batch="batch", side=8):
    """Return a model whose `level` (1,) is the mean of the picture times a factor."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Mul", ["flat", "factor"], ["level"]),
    ]
    constants = {"factor": np.array(factor, np.float32)}
    return graph(nodes, {"image": [batch, 3, side, side]}, {"level": [batch, 3]}, constants)


def convolution(*, batch="batch", side=16, classes=10, seed=0):
    """Return a small classifier with real arithmetic: a convolution, a Relu, a mean, a product."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["image", "kernels"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    constants = {
        "kernels": random.normal(size=(8, 3, 3, 3)).astype(np.float32) / 255,
        "weights": random.normal(size=(8, classes)).astype(np.float32),
    }
    return graph(nodes, {"image": [batch, 3, side, side]}, {"logits": [batch, classes]}, constants)


def quantized():
    """Return a model with Q/DQ nodes."""
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["small"]),
        helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["again"]),
        helper.make_node("Relu", ["again"], ["level"]),
    ]
    constants = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)}
    return graph(nodes, {"image": ["batch", 3, 8, 8]}, {"level": ["batch", 3, 8, 8]}, constants)


def quantized_convolution():
    """Return a convolution in INT8, weights and input."""
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["small"]),
        helper.make_node("DequantizeLinear", ["small", "scale", "zero"], ["again"]),
        helper.make_node("DequantizeLinear", ["kernels", "scale", "zero"], ["real"]),
        helper.make_node("Conv", ["again", "real"], ["maps"], pads=[1, 1, 1, 1]),
    ]
    kernels = np.random.default_rng(0).integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    constants = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8), "kernels": kernels}
    return graph(nodes, {"image": ["batch", 3, 8, 8]}, {"maps": ["batch", 4, 8, 8]}, constants)


def run(model, inputs):
    """Return the outputs by name, computed by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def checked(model):
    """Return the model, once ONNX's own checker has passed it."""
    onnx.checker.check_model(model, full_check=True)
    return model
