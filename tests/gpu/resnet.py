"""ResNet-50 as ONNX with random weights: its shapes and work are the real ones, its answers mean nothing.

He et al., "Deep Residual Learning for Image Recognition", 2015, table 1, the 50-layer column; the stride of a
stage stands in its 3x3 convolution, as everybody has it since.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


class _Writer:
    def __init__(self, dtype, seed):
        self.nodes, self.weights = [], []
        self._dtype = dtype
        self._random = np.random.default_rng(seed)

    def node(self, operator, inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, *shape, scale=None):
        scale = scale or (2.0 / np.prod(shape[1:])) ** 0.5
        name = f"w{len(self.weights)}"
        array = (self._random.standard_normal(shape) * scale).astype(self._dtype)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def convolution(self, x, channels_in, channels_out, side, stride=1):
        pads = [side // 2] * 4
        inputs = [
            x,
            self.weight(channels_out, channels_in, side, side),
            self.weight(channels_out, scale=0.01),
        ]
        return self.node("Conv", inputs, kernel_shape=[side] * 2, strides=[stride] * 2, pads=pads)

    def block(self, x, channels_in, width, stride):
        y = self.node("Relu", [self.convolution(x, channels_in, width, 1)])
        y = self.node("Relu", [self.convolution(y, width, width, 3, stride)])
        y = self.convolution(y, width, 4 * width, 1)
        if stride > 1 or channels_in != 4 * width:
            x = self.convolution(x, channels_in, 4 * width, 1, stride)
        return self.node("Relu", [self.node("Add", [x, y])])


def write_resnet50(file: Path, *, batch: int | str = "n", half: bool = True, seed: int = 0) -> Path:
    """Write the model: `images` (batch, 3, 224, 224) to `scores` (batch, 1000), FP16 or FP32."""
    dtype = np.float16 if half else np.float32
    writer = _Writer(dtype, seed)
    x = writer.node("Relu", [writer.convolution("images", 3, 64, 7, 2)])
    x = writer.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, blocks, stride in STAGES:
        for index in range(blocks):
            x = writer.block(x, channels, width, stride if index == 0 else 1)
            channels = 4 * width
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [x])])
    x = writer.node("Gemm", [x, writer.weight(1000, channels), writer.weight(1000, scale=0.01)], transB=1)
    writer.nodes[-1].output[0] = "scores"
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        writer.nodes,
        "resnet50",
        [helper.make_tensor_value_info("images", kind, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info("scores", kind, [batch, 1000])],
        writer.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, file)
    return file
