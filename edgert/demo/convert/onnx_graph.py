"""A small builder of ONNX graphs: image networks of float32, NCHW, with a variable batch axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

BATCH = "batch"
OPSET = 13  # the oldest that all networks here can be said in; TensorRT 8 and later read it
IR_VERSION = 8

Weights = npt.NDArray[Any]


class GraphBuilder:
    """Collects nodes and weights. A tensor is called by its name; a node has the name of its one output."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, Weights] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._sides: dict[str, tuple[int, int]] = {}

    def image(self, name: str, height: int, width: int) -> str:
        """Declare the input, (batch, 3, height, width)."""
        self._sides[name] = (height, width)
        self._inputs.append(_tensor_info(name, (3, height, width)))
        return name

    def output(self, name: str, shape: tuple[int, ...]) -> None:
        """Declare tensor `name` as an output; `shape` leaves out the batch axis."""
        self._outputs.append(_tensor_info(name, shape))

    def constant(self, name: str, value: Weights) -> str:
        """Add a weight; floating point becomes float32."""
        is_float = value.dtype.kind == "f"
        self._weights[name] = np.ascontiguousarray(value, np.float32 if is_float else np.int64)
        return name

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node with one output, called `name`."""
        self._nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def conv(
        self, x: str, name: str, weight: Weights, bias: Weights, *, stride: int = 1, groups: int = 1
    ) -> str:
        """Add a convolution padded as TensorFlow's SAME: output side = ceil(side / stride).

        `weight` is (out, in / groups, kernel, kernel); where the padding is odd, the larger half comes last.
        """
        kernel = weight.shape[2]
        height, width = self._sides[x]
        (top, bottom), (left, right) = (_pad_same(side, kernel, stride) for side in (height, width))
        tensors = [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)]
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": groups}
        self.node("Conv", tensors, name, pads=[top, left, bottom, right], **attributes)
        self._sides[name] = (-(-height // stride), -(-width // stride))
        return name

    def relu6(self, x: str) -> str:
        """Add a clip to 0..6."""
        limits = [self.constant("zero", np.zeros(())), self.constant("six", np.full((), 6.0))]
        return self._same_side(x, self.node("Clip", [x, *limits], f"{x}.relu6"))

    def add(self, x: str, y: str, name: str) -> str:
        """Add the sum of two tensors of one shape."""
        return self._same_side(x, self.node("Add", [x, y], name))

    def model(self) -> onnx.ModelProto:
        """Return the model, checked in full: types and shapes of every tensor."""
        weights = [numpy_helper.from_array(value, name) for name, value in self._weights.items()]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, weights)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgert")
        checker.check_model(model, full_check=True)
        return model

    def _same_side(self, x: str, name: str) -> str:
        self._sides[name] = self._sides[x]
        return name


def fold_batch_norm(
    weight: Weights,
    gamma: Weights,
    beta: Weights,
    mean: Weights,
    variance: Weights,
    *,
    epsilon: float,
    axis: int = 0,
) -> tuple[Weights, Weights]:
    """Return weight and bias of the convolution that equals a convolution without bias and its batch norm.

    `axis` is the weight's axis of output channels: 0, or 1 for a transposed convolution.
    """
    scale = gamma / np.sqrt(variance.astype(np.float64) + epsilon)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return weight * scale.reshape(shape), beta - mean * scale


def save(model: onnx.ModelProto, labels: list[str], target: Path) -> None:
    """Write `model.onnx` and `labels.txt` (one class a line, in the order of the output) into `target`."""
    onnx.save(model, target / "model.onnx")
    (target / "labels.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")


def _pad_same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _tensor_info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
