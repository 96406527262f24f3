"""FP16 for strongly typed runtimes: there the graph itself says it, so the graph is converted.

The converter is onnxruntime's (`onnxruntime.transformers.float16`); inputs and outputs stay FP32.
"""

from __future__ import annotations

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from edgert.build.onnx_file import OnnxFile
from edgert.errors import ModelError


def to_fp16(file: OnnxFile) -> OnnxFile:
    """Return the model with FP16 inside and the inputs and outputs that it had; `file` stays as it is.

    Operators that onnxruntime's list keeps in FP32, such as TopK and NonMaxSuppression, stay there.

    Raises:
        ModelError: the converter cannot do it.
    """
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    _name_nodes(model.graph)
    try:
        converted = convert_float_to_float16(model, keep_io_types=True)
        _remove_twins(converted.graph)
        OnnxModel(converted).topological_sort()
        onnx.checker.check_model(converted, full_check=True)
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(
            f"{file.path}: onnxruntime's converter cannot turn it into FP16: {reason}. "
            "Give --precision fp32, or export the model in FP16."
        ) from error
    return file.with_model(converted)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name: up to 1.24 the converter names its casts by them, and empty names collide."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"edgert/{node.op_type}/{index}"


def _remove_twins(graph: onnx.GraphProto) -> None:
    """Keep one cast of each tensor: the converter makes one for every node that needs it, with one name."""
    seen: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type != "Cast" or node.output[0] not in seen:
            kept.append(node)
        seen.update(node.output)
    del graph.node[:]
    graph.node.extend(kept)
