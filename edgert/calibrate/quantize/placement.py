"""Where Q and DQ stand: before layers with weights and on one branch of residual additions, nowhere else.

So TensorRT can fuse a convolution with its activation, and with the addition that follows it (developer
guide, explicit quantization): nothing stands between them, and the convolution writes INT8 with the range of
what reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec
import onnx_graphsurgeon as gs

from edgert.calibrate.quantize.layers import weighted_layers


class Edge(msgspec.Struct, frozen=True):
    """One use of a tensor: input `index` of a node. It is quantized because `layer` is."""

    node: str
    index: int
    layer: str


Edges = dict[str, tuple[Edge, ...]]  # by tensor


class Placement(msgspec.Struct, frozen=True):
    """What is quantized: layers, and the uses of tensors that get Q and DQ, one pair for each tensor."""

    layers: tuple[str, ...]
    edges: Edges

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that need a threshold, sorted."""
        return tuple(sorted(self.edges))

    def thresholds(self, amax: Mapping[str, float]) -> dict[str, float]:
        """Return the thresholds of the tensors that are quantized, sorted by name."""
        return {tensor: amax[tensor] for tensor in self.tensors}

    def within(self, tensors: Collection[str]) -> Placement:
        """Return what of the placement these thresholds are enough for."""
        fed = {
            edge.layer
            for tensor, uses in self.edges.items()
            for edge in uses
            if tensor in tensors and edge.node == edge.layer
        }
        edges = {tensor: uses for tensor, uses in self.edges.items() if tensor in tensors}
        return Placement(tuple(layer for layer in self.layers if layer in fed), _of_layers(edges, fed))

    def only(self, layer: str) -> Placement:
        """Return the placement of one of the layers alone, with the addition that it is fused with."""
        return Placement((layer,), _of_layers(self.edges, {layer}))


def _of_layers(edges: Edges, layers: Collection[str]) -> Edges:
    own = {tensor: tuple(edge for edge in uses if edge.layer in layers) for tensor, uses in edges.items()}
    return {tensor: uses for tensor, uses in own.items() if uses}


def place(graph: gs.Graph, kept: Collection[str] = ()) -> Placement:
    """Say what to quantize in a graph; the layers named in `kept` stay in float."""
    layers = [layer for layer in weighted_layers(graph) if layer.name not in kept]
    names = tuple(layer.name for layer in layers)
    edges: dict[str, list[Edge]] = {}
    for layer in layers:
        edges.setdefault(layer.activation, []).append(Edge(layer.name, 0, layer.name))
    fused = frozenset(layer.name for layer in layers if layer.operator == "Conv")
    for tensor, edge in _residuals(graph, fused):
        edges.setdefault(tensor, []).append(edge)
    return Placement(names, {tensor: tuple(uses) for tensor, uses in edges.items()})


def _residuals(graph: gs.Graph, fused: Collection[str]) -> Iterator[tuple[str, Edge]]:
    """Yield the branch of each addition that the convolution in the other branch is not fused with."""
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    outputs = {tensor.name for tensor in graph.outputs}
    for node in graph.nodes:
        if node.op != "Add" or not _adds_alike(*node.inputs):
            continue
        makers = {
            index: tensor.inputs[0].name
            for index, tensor in enumerate(node.inputs)
            if tensor.name not in outputs and _is_fusable(tensor, fused)
        }
        if makers:
            last = max(makers, key=lambda index: order[makers[index]])
            yield node.inputs[1 - last].name, Edge(node.name, 1 - last, makers[last])


def _is_fusable(tensor: gs.Variable, fused: Collection[str]) -> bool:
    """Say whether a quantized convolution makes the tensor for this addition alone."""
    return len(tensor.inputs) == 1 and tensor.inputs[0].name in fused and len(tensor.outputs) == 1


def _adds_alike(one: gs.Tensor, other: gs.Tensor) -> bool:
    """Say whether two tensors are computed and, as far as is known, of one shape: nothing is broadcast."""
    are_computed = isinstance(one, gs.Variable) and isinstance(other, gs.Variable)
    are_known = one.shape is not None and other.shape is not None
    return are_computed and (not are_known or list(one.shape) == list(other.shape))
