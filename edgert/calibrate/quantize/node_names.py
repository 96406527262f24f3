"""Names for the nodes of a graph, by which layers are kept, measured and reported, and for its tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain, count

import onnx


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs within its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes_of(attribute.g)
            for graph_within in attribute.graphs:
                yield from nodes_of(graph_within)


def with_node_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each node a name that no other has; return the model itself."""
    nodes = list(nodes_of(model.graph))
    taken, seen = {node.name for node in nodes}, set[str]()
    for index, node in enumerate(nodes):
        name = node.name or f"{node.op_type}_{index}"
        if name in seen or name != node.name:
            name = free_name(name, taken)
        node.name = name
        taken.add(name)
        seen.add(name)
    return model


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Return `wanted`, or with a number if it is taken."""
    names = chain([wanted], (f"{wanted}_{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def tensors_read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, within its graphs too."""
    yield from node.input
    for graph in _graphs_of(node):
        yield from (tensor for inner in nodes_of(graph) for tensor in inner.input)
        yield from (value.name for value in graph.output)


def rename_tensors(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Give the tensors of a node, and those that its graphs take from around it, other names."""
    node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
    node.output[:] = [names.get(tensor, tensor) for tensor in node.output]
    for graph in _graphs_of(node):
        for inner in graph.node:
            rename_tensors(inner, names)
        for value in graph.output:
            value.name = names.get(value.name, value.name)


def _graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
