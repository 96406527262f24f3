"""Names for the nodes of a graph: layers are kept, measured and reported by them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
