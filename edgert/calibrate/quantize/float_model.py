"""Reads the FP32 model that is to be quantized, and makes its graph plain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import onnx
import onnx_graphsurgeon as gs
from onnx import version_converter
from onnx_graphsurgeon.logger import G_LOGGER

from edgert.build.onnx_file import OnnxFile, read_onnx
from edgert.calibrate.quantize.node_names import nodes_of, with_node_names
from edgert.calibrate.quantize.simplify import simplify
from edgert.errors import ModelError

G_LOGGER.severity = G_LOGGER.CRITICAL  # what it complains of it raises too

MIN_OPSET = 13  # from here on Q and DQ take scales by channel
MIN_IR_VERSION = 7  # which came with that opset, and has weights that are no inputs
_FLOATS_BUT_FP32 = {
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.DOUBLE: "FP64",
}
_INTEGER_OPERATORS = ("QLinear", "ConvInteger", "MatMulInteger", "DynamicQuantize")  # as names begin


class FloatModel(msgspec.Struct, frozen=True):
    """An FP32 model with one input, constants folded, batch normalisation inside its convolutions.

    Its nodes have names, each its own, and its tensors have the shapes that can be told beforehand.
    """

    file: OnnxFile
    proto: onnx.ModelProto
    input_name: str

    def graph(self) -> gs.Graph:
        """Return a graph to change; weights are shared with all others of the model."""
        return gs.import_onnx(self.proto)


def read_float_model(path: Path) -> FloatModel:
    """Read a model that can be quantized. Blocks for a second or more.

    Raises:
        ConfigError: there is no such file.
        ModelError: it is quantized already, not FP32, too old to be converted, has several inputs, or
            onnxruntime cannot run it.
    """
    file = read_onnx(path)
    _check(file)
    input_name = _only_input(file)
    proto = with_node_names(_with_constant_weights(_modern(file)))
    proto = with_node_names(simplify(file.with_model(proto)))
    return FloatModel(file, onnx.shape_inference.infer_shapes(proto), input_name)


def _check(file: OnnxFile) -> None:
    nodes = list(nodes_of(file.model.graph))
    if file.is_quantized or any(node.op_type.startswith(_INTEGER_OPERATORS) for node in nodes):
        raise ModelError(
            f"{file.path}: is quantized already (it has Q/DQ nodes or integer operators). Build it as it is: "
            f"edgert build {file.path.name} --precision int8; or give the model before it was quantized."
        )
    kinds = set(_float_kinds(file.model.graph, nodes))
    for kind, name in _FLOATS_BUT_FP32.items():
        if kind in kinds:
            raise ModelError(f"{file.path}: holds {name} tensors, expected FP32. Export the model in FP32.")


def _float_kinds(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> Iterator[int]:
    """Yield the types of inputs, outputs and weights; a lone FP64 number is not worth an error."""
    for value in (*graph.input, *graph.output):
        yield value.type.tensor_type.elem_type
    for node in nodes:
        if node.op_type == "Constant":
            yield from (each.t.data_type for each in node.attribute if len(each.t.dims) > 1)
    yield from (tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1)


def _modern(file: OnnxFile) -> onnx.ModelProto:
    """Return the model with an opset that knows Q and DQ by channel."""
    opsets = [entry.version for entry in file.model.opset_import if entry.domain in ("", "ai.onnx")]
    opset = max(opsets, default=1)
    if opset >= MIN_OPSET:
        return file.model
    try:
        return version_converter.convert_version(file.model, MIN_OPSET)
    except Exception as error:
        reason = str(error).strip().split("\n", maxsplit=1)[0].rpartition(" failed: ")[2]  # without C++
        raise ModelError(
            f"{file.path}: has opset {opset}, expected {MIN_OPSET} or later, and cannot be converted: "
            f"{reason}. Export the model with a newer opset."
        ) from error


def _with_constant_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose weights are no inputs: those of old exporters are, and so are not constant."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    changed.ir_version = max(model.ir_version, MIN_IR_VERSION)
    return changed


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
