"""The parser's complaints name node, operator, reason and remedy."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper

from edgert.build.network import explain_parser
from edgert.build.onnx_file import read_onnx
from tests.fakes.onnx_graphs import graph, save

INT32 = (
    "Invalid Node - bias\nITensor::getDimensions: Error Code 4: API Usage Error (bias: input has type Int32 "
    "but must have type FP8, FP4, Int4, or Int8. In checkType at /_src/optimizer/common/nodeBase.cpp:455)\n"
    "[checkMacros.cpp::catchCudaError::229] Error Code 1: Cuda Runtime"
)


@pytest.fixture
def file(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="first"),
        helper.make_node("Unique", ["r"], ["y"], name="second"),
    ]
    return read_onnx(save(tmp_path, graph(nodes, {"x": [4]}, {"y": ["n"]}, {"c": np.zeros(1)})))


def error(node, description, code="INTERNAL_ERROR"):
    return SimpleNamespace(
        node=lambda: node, desc=lambda: description, code=lambda: SimpleNamespace(name=code)
    )


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (
            "Op type Unique is not supported in TensorRT-RTX.",
            "Op type Unique is not supported in TensorRT-RTX. Export the model without this operator, or cut "
            "the graph before it.",
        ),
        (
            "false",
            "Unique is not supported in this form (UNSUPPORTED_NODE). Export the model for a newer opset.",
        ),
        (
            INT32,
            "(bias: input has type Int32 but must have type FP8, FP4, Int4, or Int8). Quantize without "
            "INT32 biases (onnxruntime: QuantizeBias = False) and symmetrically (QInt8).",
        ),
    ],
)
def test_a_complaint_names_place_reason_and_remedy(file, description, expected):
    text = explain_parser(file, "TensorRT 11.4.0", [error(1, description, "UNSUPPORTED_NODE")])
    assert text.startswith(f"{file.path}: TensorRT 11.4.0 cannot parse it: node 1 'second' (Unique): ")
    assert text.endswith(expected)


def test_of_many_complaints_some_are_shown(file):
    text = explain_parser(file, "TensorRT 11.4.0", [error(0, f"reason {n}") for n in range(8)])
    assert "reason 4; and 3 more. " in text
    assert "reason 5" not in text


def test_a_complaint_without_a_node_is_about_the_model(file):
    assert "the model: no output" in explain_parser(file, "TensorRT 11.4.0", [error(-1, "no output")])
    assert "the parser gives no reason" in explain_parser(file, "TensorRT 11.4.0", [])
