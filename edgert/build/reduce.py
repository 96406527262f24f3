"""Appends to a detector what keeps its best boxes only, so that little leaves the GPU.

Outputs keep their names and the order of their axes, so the model's decoder reads them as before, and finds
the same as long as no more than the kept boxes reach its `score_min`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgert.build.onnx_file import OnnxFile
from edgert.errors import ConfigError

MIN_OPSET = 13
MAX_COUNT = 3840  # TensorRT's limit of TopK
_PREFIX = "edgert/best"
_YOLO_FIRST_CLASS = {"v5": 5, "v8": 4}


def keep_best_anchors(
    file: OnnxFile, count: int, *, boxes: str, scores: str, class_offset: int = 0
) -> OnnxFile:
    """Return an SSD with the `count` anchors whose best class is best, in that order.

    `boxes` (n, anchors, 4) becomes (n, count, 4), `scores` (n, anchors, classes) becomes (n, count, classes).
    The first `class_offset` classes do not count.

    Raises:
        ConfigError: there are no such outputs, or too few anchors, or the opset is too old.
    """
    tail = _Tail(file, count)
    tail.expect_side(scores, rank=3, axis=1)
    tail.expect_side(boxes, rank=3, axis=1)
    all_boxes, all_scores = tail.take(boxes), tail.take(scores)
    wanted = tail.part(all_scores, axis=2, start=class_offset) if class_offset else all_scores
    best = tail.best(tail.highest(wanted, axis=2))
    tail.give(boxes, tail.rows(all_boxes, best), axis=1)
    tail.give(scores, tail.rows(all_scores, best), axis=1)
    return tail.finished()


def keep_best_boxes(file: OnnxFile, count: int, *, output: str | None, head: str) -> OnnxFile:
    """Return a YOLO with the `count` boxes whose best class is best; `head` is `v5` or `v8`.

    Raises:
        ConfigError: as `keep_best_anchors`, or the head has nothing to leave out.
    """
    if head not in _YOLO_FIRST_CLASS:
        raise ConfigError(f"{file.path}: --top-k: a head {head!r} gives few boxes already; leave it out.")
    tail = _Tail(file, count)
    name = output or tail.only_output()
    axis = 2 if head == "v8" else 1
    tail.expect_side(name, rank=3, axis=axis)
    whole = tail.take(name)
    rows = tail.node("Transpose", [whole], perm=[0, 2, 1]) if head == "v8" else whole
    score = tail.highest(tail.part(rows, axis=2, start=_YOLO_FIRST_CLASS[head]), axis=2)
    if head == "v5":
        objectness = tail.node("Gather", [rows, tail.constant(4)], axis=2)
        score = tail.node("Mul", [score, objectness])
    best = tail.rows(rows, tail.best(score))
    tail.give(name, tail.node("Transpose", [best], perm=[0, 2, 1]) if head == "v8" else best, axis=axis)
    return tail.finished()


class _Tail:
    """What is appended to a copy of a graph, between its old outputs and its new ones."""

    def __init__(self, file: OnnxFile, count: int) -> None:
        if not 1 <= count <= MAX_COUNT:
            raise ConfigError(f"--top-k {count}: expected 1 to {MAX_COUNT}, which is TensorRT's limit")
        self._file = file
        self._count = count
        self._opset = _opset(file)
        self._model = onnx.ModelProto()
        self._model.CopyFrom(file.model)
        self._graph = self._model.graph
        self._outputs = {output.name: output for output in self._graph.output}

    def only_output(self) -> str:
        """Return the name of the one output. Raises ConfigError if there are several."""
        if len(self._outputs) != 1:
            raise ConfigError(f"{self._file.path}: --top-k: which output? It has {', '.join(self._outputs)}.")
        return next(iter(self._outputs))

    def expect_side(self, name: str, *, rank: int, axis: int) -> None:
        """Raise ConfigError unless the output has `rank` axes, and more than `count` places on `axis`."""
        if name not in self._outputs:
            raise ConfigError(
                f"{self._file.path}: --top-k: has no output {name!r}, it has {', '.join(self._outputs)}. "
                "Give --boxes and --scores."
            )
        sides = self._outputs[name].type.tensor_type.shape.dim
        shape = [side.dim_value or side.dim_param or "?" for side in sides]
        if len(sides) != rank or not sides[axis].dim_value:
            raise ConfigError(
                f"{self._file.path}: --top-k: output {name!r} is {shape}, expected {rank} axes, "
                f"axis {axis} of a known size"
            )
        if sides[axis].dim_value <= self._count:
            raise ConfigError(
                f"{self._file.path}: --top-k {self._count}: output {name!r} has {sides[axis].dim_value} "
                "boxes, expected more than are kept; leave --top-k out"
            )

    def take(self, name: str) -> str:
        """Free an output's name for the new output; return what the old one is called now."""
        inner = f"{_PREFIX}/all/{name}"
        _rename(self._graph, name, inner)
        return inner

    def give(self, name: str, value: str, axis: int) -> None:
        """Let `value` be the output `name`, with `count` places on `axis`."""
        self._graph.node.append(
            helper.make_node("Identity", [value], [name], name=f"{_PREFIX}/output/{name}")
        )
        side = self._outputs[name].type.tensor_type.shape.dim[axis]
        side.dim_value = self._count

    def best(self, ranks: str) -> str:
        """Return (n, count, 1) places of the highest of (n, places), highest first, ties in order."""
        indices = self.node(
            "TopK", [ranks, self.constant([self._count])], outputs=2, axis=1, largest=1, sorted=1
        )
        return self.node("Unsqueeze", [indices, self.constant([2])])

    def rows(self, data: str, places: str) -> str:
        """Return (n, count, values): the rows of (n, places, values) at (n, count, 1) places."""
        return self.node("GatherND", [data, places], batch_dims=1)

    def part(self, data: str, axis: int, start: int) -> str:
        """Return what stands at `start` and behind it on `axis`."""
        ends = np.iinfo(np.int32).max
        limits = [self.constant([value]) for value in (start, ends, axis)]
        return self.node("Slice", [data, *limits])

    def highest(self, data: str, axis: int) -> str:
        """Return the highest values along `axis`, which is gone then."""
        if self._opset >= 18:
            return self.node("ReduceMax", [data, self.constant([axis])], keepdims=0)
        return self.node("ReduceMax", [data], axes=[axis], keepdims=0)

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> str:
        """Append a node and return its last output."""
        name = f"{_PREFIX}/{operator}/{len(self._graph.node)}"
        names = [f"{name}/{index}" for index in range(outputs)]
        self._graph.node.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names[-1]

    def constant(self, value: int | Sequence[int]) -> str:
        """Add an int64 constant and return its name."""
        name = f"{_PREFIX}/constant/{len(self._graph.initializer)}"
        self._graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        return name

    def finished(self) -> OnnxFile:
        """Return the model with what was appended, checked."""
        onnx.checker.check_model(self._model, full_check=True)
        return self._file.with_model(self._model)


def _opset(file: OnnxFile) -> int:
    """Return the version of ONNX's own operators. Raises ConfigError if the appended ones need a newer."""
    versions = [entry.version for entry in file.model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max(versions, default=1)
    if opset < MIN_OPSET:
        raise ConfigError(
            f"{file.path}: --top-k: has opset {opset}, expected {MIN_OPSET} or later. Export it again."
        )
    return opset


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Give a tensor another name wherever it is made or read, also inside branches and loops."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, old, new)
