"""From an ONNX model to a TensorRT network. The parser's complaints become one error with a remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgert.build.onnx_file import OnnxFile
from edgert.errors import ModelError
from edgert.execute.tensorrt_bindings import Bindings
from edgert.models.tensor_spec import TensorSpec

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
# What the parser says -> what to do about it; the first that fits.
_REMEDIES = (
    (
        "has type Int32 but must have type",
        "Quantize without INT32 biases (onnxruntime: QuantizeBias = False) and symmetrically (QInt8)",
    ),
    ("is not supported in", "Export the model without this operator, or cut the graph before it"),
    ("No importer registered", "Export the model without this operator, or cut the graph before it"),
    ("plugin", "Export the model without this operator, or cut the graph before it"),
    ("dynamic", "Fold what the shapes are computed from (onnxslim, or constant folding at export)"),
)
_MAX_SHOWN = 5
_SOURCE_PLACE = re.compile(r"\.? In \w+ at \S+:\d+")  # where in TensorRT's own source


class ParsedNetwork:
    """A network, with the builder and parser that have to live as long."""

    def __init__(self, bindings: Bindings, log: Any, *, is_strongly_typed: bool) -> None:
        """Take the runtime's logger."""
        trt = bindings.module
        self.bindings = bindings
        self.builder = trt.Builder(log)
        self.network = self.builder.create_network(bindings.network_flags(is_strongly_typed))
        self._parser = trt.OnnxParser(self.network, log)

    def parse(self, file: OnnxFile) -> None:
        """Fill the network. Raises ModelError."""
        if not self._parser.parse(file.message()):
            errors = [self._parser.get_error(index) for index in range(self._parser.num_errors)]
            raise ModelError(explain_parser(file, self.bindings.title, errors))

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, -1 for a variable side."""
        network = self.network
        return tuple(_spec(network.get_input(index)) for index in range(network.num_inputs))

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, -1 for a variable side."""
        network = self.network
        return tuple(_spec(network.get_output(index)) for index in range(network.num_outputs))

    def fix_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Give inputs shapes without a variable side; the outputs follow."""
        for index in range(self.network.num_inputs):
            tensor = self.network.get_input(index)
            tensor.shape = shapes[tensor.name]


def explain_parser(file: OnnxFile, title: str, errors: list[Any]) -> str:
    """Return one message for the parser's errors: node, operator, reason, remedy."""
    lines = [_complaint(file, error) for error in errors[:_MAX_SHOWN]] or ["the parser gives no reason"]
    more = f"; and {len(errors) - _MAX_SHOWN} more" if len(errors) > _MAX_SHOWN else ""
    said = " ".join(error.desc() for error in errors)
    remedy = next((text for sign, text in _REMEDIES if sign in said), "Export the model for a newer opset")
    return f"{file.path}: {title} cannot parse it: {'; '.join(lines)}{more}. {remedy}."


def _complaint(file: OnnxFile, error: Any) -> str:
    """Return where and why; name and operator are the model's: TensorRT 10.3 gives only a number."""
    index, nodes = error.node(), file.model.graph.node
    node = nodes[index] if 0 <= index < len(nodes) else None
    where = f"node {index} {node.name!r} ({node.op_type})" if node is not None else "the model"
    reason = _reason(error.desc())
    if reason == "false" and node is not None:  # a check that failed, and nothing else is said
        reason = f"{node.op_type} is not supported in this form ({error.code().name})"
    return f"{where}: {reason}"


def _reason(description: str) -> str:
    """Return the line that says why: the second, if the first only repeats the node's name."""
    lines = description.strip().split("\n")
    line = lines[1] if lines[0].startswith("Invalid Node") and len(lines) > 1 else lines[0]
    return _SOURCE_PLACE.sub("", line).strip().rstrip(".")


def _spec(tensor: Any) -> TensorSpec:
    name = tensor.dtype.name
    return TensorSpec(tensor.name, _DTYPES.get(name, name.lower()), tuple(tensor.shape))
