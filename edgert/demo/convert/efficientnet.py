"""EfficientNet-Lite0 (ImageNet-1k) from a PyTorch state dict, as ONNX with the batch norms folded.

EfficientNet: Tan and Le 2019 (arXiv 1905.11946); Lite is TensorFlow's variant with ReLU6 and
without squeeze-and-excitation. The weights keep TensorFlow's padding.

    images (N, 3, 224, 224)   RGB, (pixel - 127) / 128
    logits (N, 1000)          before the softmax
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edgert.demo.convert.labels import imagenet_labels
from edgert.demo.convert.onnx_graph import GraphBuilder, Weights, fold_batch_norm, save
from edgert.demo.convert.torch_checkpoint import read_state_dict

SIDE = 224
CLASSES = 1000
EPSILON = 1e-3


class _Stage(NamedTuple):
    """Blocks of one kind in a row; only the first strides."""

    blocks: int
    stride: int
    expands: bool


STAGES = (
    _Stage(1, 1, expands=False),
    _Stage(2, 2, expands=True),
    _Stage(2, 2, expands=True),
    _Stage(3, 2, expands=True),
    _Stage(3, 1, expands=True),
    _Stage(4, 2, expands=True),
    _Stage(1, 1, expands=True),
)


def convert(source: Path, target: Path) -> None:
    """Convert the one `.pth` file in `source`; the class names come from the JSON file beside it."""
    (checkpoint,) = source.glob("*.pth")
    graph = GraphBuilder("efficientnet_lite0")
    _Network(graph, read_state_dict(checkpoint)).classify(graph.image("images", SIDE, SIDE), "logits")
    graph.output("logits", (CLASSES,))
    save(graph.model(), imagenet_labels(source / "imagenet1k_label_to_names.json"), target)


class _Network:
    """The layers, by the names that their weights have."""

    def __init__(self, graph: GraphBuilder, weights: dict[str, Weights]) -> None:
        self._graph = graph
        self._weights = weights

    def classify(self, images: str, name: str) -> None:
        """Add the whole network."""
        graph = self._graph
        x = self._relu_conv(images, "_conv_stem", "_bn0", stride=2)
        index = 0
        for stage in STAGES:
            for block in range(stage.blocks):
                x = self._block(x, f"_blocks.{index}.", stage, is_first=block == 0)
                index += 1
        x = self._relu_conv(x, "_conv_head", "_bn1")
        x = graph.node("Flatten", [graph.node("GlobalAveragePool", [x], "pooled")], "features")
        parts = [graph.constant(f"fc.{part}", self._weights[f"_fc.{part}"]) for part in ("weight", "bias")]
        graph.node("Gemm", [x, *parts], name, transB=1)

    def _block(self, x: str, prefix: str, stage: _Stage, *, is_first: bool) -> str:
        """Add an inverted residual: expand, filter each channel, project."""
        y = self._relu_conv(x, f"{prefix}_expand_conv", f"{prefix}_bn0") if stage.expands else x
        stride = stage.stride if is_first else 1
        y = self._relu_conv(y, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, depthwise=True)
        y = self._conv(y, f"{prefix}_project_conv", f"{prefix}_bn2")
        return y if is_first else self._graph.add(y, x, f"{prefix}add")

    def _conv(self, x: str, name: str, norm: str, *, stride: int = 1, depthwise: bool = False) -> str:
        parts = [
            self._weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        ]
        weight, bias = fold_batch_norm(self._weights[f"{name}.weight"], *parts, epsilon=EPSILON)
        return self._graph.conv(x, name, weight, bias, stride=stride, groups=len(weight) if depthwise else 1)

    def _relu_conv(self, x: str, name: str, norm: str, *, stride: int = 1, depthwise: bool = False) -> str:
        return self._graph.relu6(self._conv(x, name, norm, stride=stride, depthwise=depthwise))
