"""Reads the FP32 model that is to be quantized, and makes its graph plain."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import onnx_graphsurgeon as gs
from onnx import version_converter
from onnx_graphsurgeon.logger import G_LOGGER

from edgert.build.onnx_file import OnnxFile, read_onnx
from edgert.calibrate.quantize.simplify import simplify
from edgert.errors import ModelError

G_LOGGER.severity = G_LOGGER.CRITICAL  # what it complains of it raises too

MIN_OPSET = 13  # from here on Q and DQ take scales by channel
_FLOATS_BUT_FP32 = {
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.DOUBLE: "FP64",
}


class FloatModel(msgspec.Struct, frozen=True):
    """An FP32 model with one input, constants folded, batch normalisation inside its convolutions."""

    file: OnnxFile
    proto: onnx.ModelProto
    input_name: str

    def graph(self) -> gs.Graph:
        """Return a graph to change; weights are shared with all others of the model. Nodes have names."""
        graph = gs.import_onnx(self.proto)
        for index, node in enumerate(graph.nodes):
            node.name = node.name or f"{node.op}_{index}"
        return graph


def read_float_model(path: Path) -> FloatModel:
    """Read a model that can be quantized. Blocks for a second or more.

    Raises:
        ConfigError: there is no such file.
        ModelError: it is quantized already, not FP32, too old to be converted, has several inputs, or
            onnxruntime cannot run it.
    """
    file = read_onnx(path)
    _check(file)
    proto = simplify(file.with_model(_modern(file)))
    return FloatModel(file, proto, _only_input(file))


def _check(file: OnnxFile) -> None:
    if file.is_quantized:
        raise ModelError(
            f"{file.path}: is quantized already (it has Q/DQ nodes). Build it as it is: edgert build "
            f"{file.path.name} --precision int8; or give the model before it was quantized."
        )
    graph = file.model.graph
    kinds = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    kinds += [tensor.data_type for tensor in graph.initializer]
    for kind, name in _FLOATS_BUT_FP32.items():
        if kind in kinds:
            raise ModelError(f"{file.path}: holds {name} tensors, expected FP32. Export the model in FP32.")


def _modern(file: OnnxFile) -> onnx.ModelProto:
    """Return the model with an opset that knows Q and DQ by channel."""
    opsets = [entry.version for entry in file.model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max(opsets, default=1)
    if opset >= MIN_OPSET:
        return file.model
    try:
        return version_converter.convert_version(file.model, MIN_OPSET)
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0]
        raise ModelError(
            f"{file.path}: has opset {opset}, expected {MIN_OPSET} or later, and cannot be converted: "
            f"{reason}. Export the model with a newer opset."
        ) from error


def _only_input(file: OnnxFile) -> str:
    graph = file.model.graph
    weights = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in weights]
    if len(names) != 1:
        raise ModelError(
            f"{file.path}: has the inputs {', '.join(names) or 'none'}; edgert calibrates models that take "
            "one picture."
        )
    return names[0]
