"""CenterFace from its published ONNX file (opset 9, 10 x 3 x 32 x 32), for one size and any batch.

CenterFace: Xu et al. 2019 (arXiv 1911.03599). Cell (row, column) of the outputs is 4 x 4 pixels of the image.

    images    (N, 3, H, W)          RGB, 0..255; H and W are multiples of 32
    heatmap   (N, 1, H / 4, W / 4)  0..1, the score of a face centred in the cell
    scale     (N, 2, H / 4, W / 4)  log of height and width, in cells
    offset    (N, 2, H / 4, W / 4)  of the centre from the cell, y and x, in cells
    landmarks (N, 10, H / 4, W / 4) eyes, nose and mouth corners, y and x each, in parts of the face's sides
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper, numpy_helper

from edgert.demo.convert.onnx_graph import GraphBuilder, Weights, fold_batch_norm, save

# In 20 of 20 sampled frames of the demo's clip (176 x 144) the face scores 0.84 or more, no less than at
# 480 x 640 and in a tenth of the time.
HEIGHT, WIDTH = 160, 192
STRIDE = 4
INPUT = "input.1"
OUTPUTS = {"537": ("heatmap", 1), "538": ("scale", 2), "539": ("offset", 2), "540": ("landmarks", 10)}


def convert(source: Path, target: Path) -> None:
    """Convert `centerface.onnx` in `source`."""
    save(resize(onnx.load(source / "centerface.onnx"), HEIGHT, WIDTH), ["face"], target)


def resize(published: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """Return the network for images of `height` and `width`, any batch, its batch norms folded."""
    graph = GraphBuilder("centerface")
    graph.image("images", height, width)
    names = {INPUT: "images", **{old: new for old, (new, _) in OUTPUTS.items()}}
    weights = {weight.name: numpy_helper.to_array(weight) for weight in published.graph.initializer}
    norms = {node.input[0]: node for node in published.graph.node if node.op_type == "BatchNormalization"}
    for node in published.graph.node:
        if node.op_type != "BatchNormalization":
            _copy(graph, node, weights, norms.get(node.output[0]), names)
    for name, channels in OUTPUTS.values():
        graph.output(name, (channels, height // STRIDE, width // STRIDE))
    return graph.model()


def _copy(
    graph: GraphBuilder,
    node: onnx.NodeProto,
    weights: dict[str, Weights],
    norm: onnx.NodeProto | None,
    names: dict[str, str],
) -> None:
    """Copy a node; with the batch norm that follows it folded in, if there is one."""
    inputs = [names.get(name, name) for name in node.input if name not in weights]
    tensors = [weights[name] for name in node.input if name in weights]
    output = node.output[0]
    if norm is not None:
        output = norm.output[0]
        tensors = _fold(tensors[0], norm, weights)
    output = names.get(output, output)
    inputs += [graph.constant(f"{output}.{i}", tensor) for i, tensor in enumerate(tensors)]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    graph.node(node.op_type, inputs, output, **attributes)


def _fold(weight: Weights, norm: onnx.NodeProto, weights: dict[str, Weights]) -> list[Weights]:
    (epsilon,) = (attribute.f for attribute in norm.attribute if attribute.name == "epsilon")
    parts = [weights[name] for name in norm.input[1:]]
    return list(fold_batch_norm(weight, *parts, epsilon=epsilon, axis=1))
