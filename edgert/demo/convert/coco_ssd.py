"""SSDLite MobileNetV2 (COCO) from a TensorFlow.js graph model, as ONNX with the boxes decoded.

MobileNetV2 and SSDLite: Sandler et al. 2018 (arXiv 1801.04381); boxes: Liu et al. 2016 (arXiv 1512.02325).
The weights are those of TensorFlow's object detection model `ssdlite_mobilenet_v2_coco`.

    images (N, 3, 300, 300)   RGB, pixel / 127.5 - 1
    boxes  (N, 1917, 4)       ymin xmin ymax xmax, 0..1 of the image; overlapping ones are not removed
    scores (N, 1917, 90)      0..1; class i is COCO's id i + 1
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgert.demo.convert.labels import coco_labels
from edgert.demo.convert.onnx_graph import GraphBuilder, Weights, fold_batch_norm, save
from edgert.errors import ModelError

SIDE = 300
ANCHORS = 1917
CLASSES = 90  # COCO's ids; the network's class 0, the background, is left out
BLOCK_STRIDES = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)
FINEST_BLOCK = 13  # its expanded tensor, 19 x 19, is the finest feature map
EXTRA_LAYERS = ("2_1x1_256", "2_3x3_s2_512"), ("3_1x1_128", "3_3x3_s2_256"), ("4_1x1_128", "4_3x3_s2_256")
LAST_LAYER = ("5_1x1_64", "5_3x3_s2_128")


def convert(source: Path, target: Path) -> None:
    """Convert `model.json` and its shards in `source`."""
    graph = GraphBuilder("ssdlite_mobilenet_v2_coco")
    weights = read_weights(source / "model.json")
    features = _Backbone(graph, weights).features(graph.image("images", SIDE, SIDE))
    heads = _Heads(graph, weights)
    graph.node("Concat", [heads.boxes(i, x) for i, x in enumerate(features)], "codes", axis=1)
    graph.node("Concat", [heads.classes(i, x) for i, x in enumerate(features)], "logits", axis=1)
    graph.node("Sigmoid", ["logits"], "scores")
    _decode_boxes(graph, weights, "codes", "boxes")
    graph.output("boxes", (ANCHORS, 4))
    graph.output("scores", (ANCHORS, CLASSES))
    save(graph.model(), coco_labels(), target)


def read_weights(path: Path) -> dict[str, Weights]:
    """Read a TensorFlow.js weights manifest: a group's weights lie one after another over its shards."""
    weights: dict[str, Weights] = {}
    for group in json.loads(path.read_text("utf-8"))["weightsManifest"]:
        buffer = b"".join((path.parent / name).read_bytes() for name in group["paths"])
        offset = 0
        for entry in group["weights"]:
            dtype, count = np.dtype(entry["dtype"]), int(np.prod(entry["shape"], dtype=np.int64))
            weights[entry["name"]] = np.frombuffer(buffer, dtype, count, offset).reshape(entry["shape"])
            offset += count * dtype.itemsize
        if offset != len(buffer):
            raise ModelError(f"{path}: its weights take {offset} bytes, the shards hold {len(buffer)}.")
    return weights


class _Backbone:
    """MobileNetV2 and the extra layers, whose batch norms the publisher has folded already."""

    def __init__(self, graph: GraphBuilder, weights: dict[str, Weights]) -> None:
        self._graph = graph
        self._weights = weights

    def features(self, images: str) -> list[str]:
        """Add the layers and return the six feature maps, the finest first."""
        x = self._relu_conv(images, "Conv", stride=2)
        for index, stride in enumerate(BLOCK_STRIDES):
            x, expanded = self._block(x, f"expanded_conv_{index}" if index else "expanded_conv", stride)
            if index == FINEST_BLOCK:
                maps = [expanded]
        maps.append(self._relu_conv(x, "Conv_1"))
        for narrow, wide in (*EXTRA_LAYERS, LAST_LAYER):
            x = self._relu_conv(maps[-1], f"layer_19_1_Conv2d_{narrow}")
            x = self._depthwise(x, f"layer_19_2_Conv2d_{wide}_depthwise", stride=2)
            maps.append(self._relu_conv(x, f"layer_19_2_Conv2d_{wide}"))
        return maps

    def _block(self, x: str, name: str, stride: int) -> tuple[str, str]:
        """Add an inverted residual; return its output and its expanded tensor."""
        expanded = self._relu_conv(x, f"{name}/expand") if self._has(f"{name}/expand") else x
        y = self._conv(self._depthwise(expanded, f"{name}/depthwise", stride), f"{name}/project")
        if stride == 1 and self._channels(f"{name}/expand", -2) == self._channels(f"{name}/project", -1):
            y = self._graph.add(x, y, f"{name}/add")
        return y, expanded

    def _conv(self, x: str, name: str, stride: int = 1) -> str:
        kernel, bias = self._get(name, "Conv2D/merged_input"), self._get(name, "BatchNorm/batchnorm/sub")
        return self._graph.conv(x, name, _dense(kernel), bias, stride=stride)

    def _relu_conv(self, x: str, name: str, stride: int = 1) -> str:
        return self._graph.relu6(self._conv(x, name, stride))

    def _depthwise(self, x: str, name: str, stride: int) -> str:
        scale, bias = self._get(name, "BatchNorm/batchnorm/mul"), self._get(name, "BatchNorm/batchnorm/sub")
        kernel = _per_channel(self._get(name, "depthwise_weights")) * scale.reshape(-1, 1, 1, 1)
        return self._graph.relu6(self._graph.conv(x, name, kernel, bias, stride=stride, groups=len(kernel)))

    def _get(self, layer: str, part: str) -> Weights:
        return self._weights[f"FeatureExtractor/MobilenetV2/{layer}/{part}"]

    def _has(self, layer: str) -> bool:
        return f"FeatureExtractor/MobilenetV2/{layer}/Conv2D/merged_input" in self._weights

    def _channels(self, layer: str, axis: int) -> int:
        return self._get(layer, "Conv2D/merged_input").shape[axis] if self._has(layer) else 0


class _Heads:
    """The box and class predictors of one feature map each: depthwise with batch norm, then 1 x 1."""

    def __init__(self, graph: GraphBuilder, weights: dict[str, Weights]) -> None:
        self._graph = graph
        self._weights = weights

    def boxes(self, index: int, x: str) -> str:
        """Add a box predictor: (N, anchors, 4)."""
        name = f"BoxPredictor_{index}/BoxEncodingPredictor"
        weight, bias = _dense(self._weights[f"{name}/weights"]), self._weights[f"{name}/biases"]
        return self._by_anchor(self._graph.conv(self._depthwise(x, name), name, weight, bias), 4)

    def classes(self, index: int, x: str) -> str:
        """Add a class predictor without its background class: (N, anchors, 90), before the sigmoid."""
        name = f"BoxPredictor_{index}/ClassPredictor"
        weight, bias = _dense(self._weights[f"{name}/weights"]), self._weights[f"{name}/biases"]
        is_kept = np.arange(len(bias)) % (CLASSES + 1) > 0
        y = self._graph.conv(self._depthwise(x, name), name, weight[is_kept], bias[is_kept])
        return self._by_anchor(y, CLASSES)

    def _depthwise(self, x: str, name: str) -> str:
        name = f"{name}_depthwise"
        parts = ("gamma", "beta", "moving_mean", "moving_variance")
        norm = [self._weights[f"{name}/BatchNorm/{part}"] for part in parts]
        weight = _per_channel(self._weights[f"{name}/depthwise_weights"])
        weight, bias = fold_batch_norm(weight, *norm, epsilon=1e-3)
        return self._graph.relu6(self._graph.conv(x, name, weight, bias, groups=len(weight)))

    def _by_anchor(self, x: str, columns: int) -> str:
        """(N, anchors * columns, height, width) → (N, height * width * anchors, columns)."""
        y = self._graph.node("Transpose", [x], f"{x}.nhwc", perm=[0, 2, 3, 1])
        shape = self._graph.constant(f"by_anchor_{columns}", np.array([0, -1, columns]))
        return self._graph.node("Reshape", [y, shape], f"{x}.by_anchor")


def _decode_boxes(graph: GraphBuilder, weights: dict[str, Weights], codes: str, name: str) -> None:
    """Add the decoding of (ty, tx, th, tw): centre + t * size / 10, size * exp(t / 5), as two corners."""
    anchors = weights["Postprocessor/ExpandDims"].astype(np.float64)  # (1, 1917, 4): ymin xmin ymax xmax
    sizes, centres = anchors[..., 2:] - anchors[..., :2], (anchors[..., 2:] + anchors[..., :2]) / 2
    shift, stretch = (weights[f"ConstantFolding/Postprocessor/Decode/div{i}_recip"] for i in ("", "_2"))
    axis, ends = (
        graph.constant("axis", np.array([2])),
        [graph.constant(f"at_{i}", np.array([i])) for i in (0, 2, 4)],
    )
    yx = graph.node("Slice", [codes, ends[0], ends[1], axis], "codes_yx")
    yx = graph.node("Mul", [yx, graph.constant("anchor_shift", sizes * shift)], "shift_yx")
    yx = graph.node("Add", [yx, graph.constant("anchor_centre", centres)], "centre_yx")
    hw = graph.node("Slice", [codes, ends[1], ends[2], axis], "codes_hw")
    hw = graph.node("Mul", [hw, graph.constant("stretch", stretch.reshape(1))], "log_stretch_hw")
    hw = graph.node("Exp", [hw], "stretch_hw")
    hw = graph.node("Mul", [hw, graph.constant("half_anchor", sizes / 2)], "half_hw")
    corners = [graph.node("Sub", [yx, hw], "min_yx"), graph.node("Add", [yx, hw], "max_yx")]
    graph.node("Concat", corners, name, axis=2)


def _dense(kernel: Weights) -> Weights:
    """TensorFlow's (height, width, in, out) → ONNX's (out, in, height, width)."""
    return np.transpose(kernel, (3, 2, 0, 1))


def _per_channel(kernel: Weights) -> Weights:
    """TensorFlow's depthwise (height, width, channels, 1) → ONNX's (channels, 1, height, width)."""
    return np.transpose(kernel, (2, 3, 0, 1))
