"""Models into which Q and DQ are written: all else stays as it is. Several of one model can become one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec
import onnx
from onnx import helper, numpy_helper

from edgert.calibrate.quantize.node_names import free_name, nodes_of, rename_tensors, tensors_read_by
from edgert.frames.result import Array


class Draft:
    """A copy of a model, and what is to be added to it."""

    def __init__(self, model: onnx.ModelProto, names: Collection[str]) -> None:
        """`names` are those of the model, see `names_in`; what is added gets others."""
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(model)
        self._nodes = {node.name: node for node in self._proto.graph.node}
        self._taken = set(names)
        self._after: dict[str, list[onnx.NodeProto]] = {}  # what comes as soon as a tensor is there
        self._at_start: list[onnx.NodeProto] = []
        self._replaced: set[str] = set()

    def add_constant(self, name: str, values: Array) -> str:
        """Add a constant called `name`, or nearly so; return what it is called."""
        free = self._named(name)
        self._proto.graph.initializer.append(numpy_helper.from_array(values, free))
        return free

    def add_node(
        self,
        operator: str,
        inputs: Sequence[str],
        *,
        after: str | None = None,
        axis: int | None = None,
    ) -> str:
        """Add a node that runs as soon as tensor `after` is there, None: first; return its output."""
        output = self._named(f"{after or inputs[0]}/{operator}")
        name = self._named(f"{output}/node")
        node = helper.make_node(operator, inputs, [output], name, axis=axis)
        (self._at_start if after is None else self._after.setdefault(after, [])).append(node)
        return output

    def set_input(self, node: str, index: int, tensor: str) -> None:
        """Let a node of the model read another tensor."""
        inputs = self._nodes[node].input
        self._replaced.add(inputs[index])
        inputs[index] = tensor

    def finished(self) -> onnx.ModelProto:
        """Return the model. The draft is not to be used any more."""
        graph = self._proto.graph
        nodes = list(self._ordered())
        del graph.node[:]
        graph.node.extend(nodes)
        self._drop_unread()
        self._proto.producer_name = "edgert"
        return self._proto

    def _ordered(self) -> Iterator[onnx.NodeProto]:
        graph = self._proto.graph
        yield from self._at_start
        for value in graph.input:
            yield from self._after.get(value.name, ())
        for node in graph.node:
            yield node
            for tensor in node.output:
                yield from self._after.get(tensor, ())

    def _drop_unread(self) -> None:
        """Drop the constants that nothing reads any more."""
        graph = self._proto.graph
        read = {tensor for node in nodes_of(graph) for tensor in node.input}
        dropped = self._replaced - read - set(_given_out(graph))
        for index in reversed(range(len(graph.initializer))):
            if graph.initializer[index].name in dropped:
                del graph.initializer[index]

    def _named(self, name: str) -> str:
        free = free_name(name, self._taken)
        self._taken.add(free)
        return free


class Fork(msgspec.Struct, frozen=True, eq=False):
    """A model that gives the outputs of several candidates, and not those of what they were made of."""

    model: onnx.ModelProto
    outputs: tuple[Mapping[str, str], ...]  # of each candidate, by their names in it: what they are here


def fork(reference: onnx.ModelProto, candidates: Sequence[onnx.ModelProto], names: Collection[str]) -> Fork:
    """Return all candidates in one model.

    They were made of `reference`: nodes of its are equal or read something else, and have their names
    still. Constants that it has need not be in them. `names` are those of `reference`, see `names_in`.
    """
    model = onnx.ModelProto()
    model.CopyFrom(reference)
    del model.graph.output[:]
    merger = _Merger(reference, model.graph, names)
    outputs = tuple(merger.add(candidate.graph) for candidate in candidates)
    return Fork(model, outputs)


class _Merger:
    def __init__(self, reference: onnx.ModelProto, graph: onnx.GraphProto, names: Collection[str]) -> None:
        self._graph = graph
        self._same = {node.name: node.SerializeToString() for node in reference.graph.node}
        self._constants = {tensor.name for tensor in reference.graph.initializer}
        self._taken = set(names)
        self._given_out = set[str]()

    def add(self, candidate: onnx.GraphProto) -> dict[str, str]:
        """Add what the candidate computes itself; return what its outputs are called."""
        renamed: dict[str, str] = {}
        for tensor in candidate.initializer:
            if tensor.name not in self._constants:
                renamed[tensor.name] = self._named(tensor.name)
                self._graph.initializer.add().CopyFrom(tensor)
                self._graph.initializer[-1].name = renamed[tensor.name]
        for node in candidate.node:
            if (
                renamed.keys() & set(tensors_read_by(node))
                or self._same.get(node.name) != node.SerializeToString()
            ):
                self._add_node(node, renamed)
        outputs = {value.name: renamed.get(value.name, value.name) for value in candidate.output}
        for value in candidate.output:
            self._give_out(value, outputs[value.name])
        return outputs

    def _add_node(self, node: onnx.NodeProto, renamed: dict[str, str]) -> None:
        added = self._graph.node.add()
        added.CopyFrom(node)
        added.name = self._named(node.name)
        renamed.update((tensor, self._named(tensor)) for tensor in node.output if tensor)
        rename_tensors(added, renamed)

    def _give_out(self, value: onnx.ValueInfoProto, name: str) -> None:
        if name not in self._given_out:
            self._given_out.add(name)
            self._graph.output.add().CopyFrom(value)
            self._graph.output[-1].name = name

    def _named(self, name: str) -> str:
        free = free_name(name, self._taken)
        self._taken.add(free)
        return free


def names_in(model: onnx.ModelProto) -> frozenset[str]:
    """Return what tensors and nodes are called, those of the graphs within nodes too."""
    graph = model.graph
    names = {name for node in nodes_of(graph) for name in (node.name, *node.input, *node.output)}
    names.update(value.name for value in graph.input)
    names.update(tensor.name for tensor in graph.initializer)
    return frozenset(names.union(_given_out(graph)))


def _given_out(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield the outputs of the graph and of those within its nodes."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _given_out(inner)
