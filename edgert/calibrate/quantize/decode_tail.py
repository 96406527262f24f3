"""The layers of a detector's decoding: they read positions and probabilities, not features."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import onnx_graphsurgeon as gs

from edgert.calibrate.quantize.layers import weighted_layers

_DECISIONS = frozenset({"Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "TopK", "NonMaxSuppression"})
_FEATURES = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "RoiAlign", "LSTM", "GRU", "RNN"}
)  # make features anew, e.g. attention's product after its Softmax


def decode_tail(graph: gs.Graph) -> list[str]:
    """Return the layers that INT8 would round answers in, such as the sum over YOLOv8's distances.

    Such a layer reads what a Softmax or a choice (TopK, ArgMax, suppression) made, with nothing between that
    makes features of it, and no other layer with weights comes after it.
    """
    layers = {layer.name: layer.node for layer in weighted_layers(graph)}
    return [
        name
        for name, node in layers.items()
        if any(maker.op in _DECISIONS for maker in _makers(node))
        and all(reader.name not in layers for reader in _readers(node))
    ]


def _makers(node: gs.Node) -> Iterator[gs.Node]:
    """Yield the nodes that a node's data comes from, back to those that make features."""
    return _walk((maker for tensor in node.inputs for maker in tensor.inputs), "inputs", _FEATURES)


def _readers(node: gs.Node) -> Iterator[gs.Node]:
    """Yield all nodes that depend on a node."""
    return _walk((reader for tensor in node.outputs for reader in tensor.outputs), "outputs", ())


def _walk(start: Iterable[gs.Node], side: str, ends: Collection[str]) -> Iterator[gs.Node]:
    """Yield nodes and what is on one side of them, each once; nothing behind operators of `ends`."""
    waiting, seen = list(start), set[int]()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if node.op not in ends:
            waiting += [other for tensor in getattr(node, side) for other in getattr(tensor, side)]
