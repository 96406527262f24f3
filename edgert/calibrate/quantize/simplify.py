"""Folds what a graph computes from constants; onnxruntime's basic passes keep to ONNX's operators."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort

from edgert.build.onnx_file import OnnxFile
from edgert.calibrate.quantize.node_names import nodes_of
from edgert.errors import ModelError


def simplify(file: OnnxFile) -> onnx.ModelProto:
    """Return the graph with batch normalisation in its convolutions and without constant parts.

    Raises:
        ModelError: onnxruntime cannot run the model, so nothing could be observed either.
    """
    with tempfile.TemporaryDirectory(prefix="edgert-") as folder:
        target = Path(folder) / "plain.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4  # what it would print comes as an exception too
        try:
            ort.InferenceSession(file.message(), options, providers=["CPUExecutionProvider"])
            proto = onnx.load(target)
        except ModelError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n", maxsplit=1)[0]
            raise ModelError(
                f"{file.path}: onnxruntime cannot run it, so it cannot be observed: {reason}. Export the "
                "model without that."
            ) from error
    proto.ir_version = file.model.ir_version
    used = {node.domain for node in nodes_of(proto.graph)}
    kept = [entry for entry in proto.opset_import if entry.domain in used | {""}]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    return proto
