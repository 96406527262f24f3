"""Where Q and DQ stand: before layers with weights and on one branch of residual additions, nowhere else.

So TensorRT can fuse a convolution with its activation, and with the addition that follows it (developer
guide, explicit quantization): nothing stands between them, and the convolution writes INT8 with the range of
what reads it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
import onnx_graphsurgeon as gs

from edgert.calibrate.quantize.layers import weighted_layers


class Edge(msgspec.Struct, frozen=True):
    """One use of a tensor: input `index` of a node."""

    node: str
    index: int


class Placement(msgspec.Struct, frozen=True):
    """What is quantized: layers, and the uses of tensors that get Q and DQ, one pair for each tensor."""

    layers: tuple[str, ...]
    edges: dict[str, tuple[Edge, ...]]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that need a threshold, sorted."""
        return tuple(sorted(self.edges))

    def within(self, tensors: Collection[str]) -> Placement:
        """Return what of the placement these thresholds are enough for."""
        edges = {tensor: uses for tensor, uses in self.edges.items() if tensor in tensors}
        fed = {edge.node for uses in edges.values() for edge in uses}
        return Placement(tuple(layer for layer in self.layers if layer in fed), edges)

    def only(self, layer: str) -> Placement:
        """Return the placement of one of the layers alone."""
        edges = {
            tensor: tuple(edge for edge in uses if edge.node == layer) for tensor, uses in self.edges.items()
        }
        return Placement((layer,), {tensor: uses for tensor, uses in edges.items() if uses})


def place(graph: gs.Graph, kept: Collection[str] = ()) -> Placement:
    """Say what to quantize in a graph; the layers named in `kept` stay in float."""
    layers = [layer for layer in weighted_layers(graph) if layer.name not in kept]
    names = tuple(layer.name for layer in layers)
    edges: dict[str, list[Edge]] = {}
    for layer in layers:
        edges.setdefault(layer.activation, []).append(Edge(layer.name, 0))
    for tensor, edge in _residuals(graph, frozenset(names)):
        edges.setdefault(tensor, []).append(edge)
    return Placement(names, {tensor: tuple(uses) for tensor, uses in edges.items()})


def _residuals(graph: gs.Graph, quantized: Collection[str]) -> Iterator[tuple[str, Edge]]:
    """Yield the branch of each addition that the layer in the other branch is not fused with."""
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op != "Add" or not all(isinstance(tensor, gs.Variable) for tensor in node.inputs):
            continue
        fusable = [index for index, tensor in enumerate(node.inputs) if _is_fusable(tensor, quantized)]
        if fusable:
            last = max(fusable, key=lambda index: order[node.inputs[index].inputs[0].name])
            yield node.inputs[1 - last].name, Edge(node.name, 1 - last)


def _is_fusable(tensor: gs.Variable, quantized: Collection[str]) -> bool:
    """Say whether a quantized layer makes the tensor for this addition alone."""
    return len(tensor.inputs) == 1 and tensor.inputs[0].name in quantized and len(tensor.outputs) == 1
