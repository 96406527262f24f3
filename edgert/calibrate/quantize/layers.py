"""The layers that INT8 makes faster: those with weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

import msgspec
import numpy as np
import onnx_graphsurgeon as gs

from edgert.frames.result import Array

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_PRODUCTS = frozenset({"Gemm", "MatMul"})
_STANDARD_DOMAINS = (None, "", "ai.onnx")


class Layer(msgspec.Struct, frozen=True, eq=False):
    """A convolution or matrix product with constant weights, in one graph."""

    node: gs.Node

    @property
    def name(self) -> str:
        """Unique in the model."""
        return str(self.node.name)

    @property
    def operator(self) -> str:
        """ONNX's name of it."""
        return str(self.node.op)

    @property
    def activation(self) -> str:
        """The tensor that it reads."""
        return str(self.node.inputs[0].name)

    @property
    def output(self) -> str:
        """The tensor that it makes."""
        return str(self.node.outputs[0].name)

    @property
    def weights(self) -> Array:
        """Convolutions: (out, in / groups, ...), transposed ones (in, out / groups, ...); FP32."""
        values: Array = self.node.inputs[1].values
        return values

    @property
    def bias(self) -> Array | None:
        """(out,) or what a Gemm broadcasts to it, FP32; None where the layer has none, or computes it."""
        constant = self.node.inputs[2] if len(self.node.inputs) > 2 else None
        return constant.values if isinstance(constant, gs.Constant) else None

    @property
    def groups(self) -> int:
        """Into how many parts the channels of a convolution fall."""
        return int(self.node.attrs.get("group", 1))

    @property
    def channel_axis(self) -> int:
        """The axis of the weights that counts output channels."""
        is_first = self.operator == "Conv" or bool(self.node.attrs.get("transB", 0))
        return 0 if is_first else 1


def weighted_layers(graph: gs.Graph) -> list[Layer]:
    """Return the layers that can be quantized, in the graph's order."""
    return [Layer(node) for node in graph.nodes if _is_weighted(node)]


def matching(layers: Iterable[Layer], names: Sequence[str], operators: Sequence[str]) -> Iterator[str]:
    """Yield the names of the layers that a pattern of `names` (`*`, `?`) fits, or that are of an operator."""
    for layer in layers:
        if layer.operator in operators or any(fnmatchcase(layer.name, name) for name in names):
            yield layer.name


def _is_weighted(node: gs.Node) -> bool:
    if node.op not in CONVOLUTIONS | _PRODUCTS or node.domain not in _STANDARD_DOMAINS:
        return False
    data, weights = node.inputs[:2]
    if not isinstance(data, gs.Variable) or not isinstance(weights, gs.Constant):
        return False
    is_transposed = node.op == "Gemm" and node.attrs.get("transA", 0)
    is_known_rank = len(weights.shape) == 2 if node.op in _PRODUCTS else len(weights.shape) >= 3
    return bool(weights.dtype == np.float32 and is_known_rank and not is_transposed)
