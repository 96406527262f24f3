"""Model stores for both servers, and the requests that fit them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import onnx

SIDE = 16
IMAGE_SHAPE = (3, 300, 300)
IMAGE_BYTES = 4 * 3 * 300 * 300

IDENTITY_TENSORS = """\
max_batch_size: 16
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
SSD_TENSORS = """\
max_batch_size: 1
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 300, 300 ] } ]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ 1917, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ 1917, 90 ] }
]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
TAKE_TENSORS = """\
max_batch_size: 1
input [ { name: "images" data_type: TYPE_FP32 dims: [ 3, 300, 300 ] } ]
output [ { name: "first" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
ONNX = 'platform: "onnxruntime_onnx"\n'
PYTHON = 'backend: "python"\n'
PYTHON_IDENTITY = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
        return responses
"""
PYTHON_SSD = """\
import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        file = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        responses = []
        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, "images").as_numpy()
            boxes, scores = self.session.run(["boxes", "scores"], {"images": images})
            tensors = [pb_utils.Tensor("boxes", boxes), pb_utils.Tensor("scores", scores)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""


def write_identity(store: Path, name: str = "identity") -> None:
    """Put an ONNX model that returns its FP32[16] into a store."""
    identity_model().save(_model(store, name, ONNX + IDENTITY_TENSORS) / "model.onnx")


def write_python_identity(store: Path, name: str = "identity") -> None:
    """Put the same into a store as a model in Python, which both servers take."""
    (_model(store, name, PYTHON + IDENTITY_TENSORS) / "model.py").write_text(PYTHON_IDENTITY)


def write_ssd(store: Path, file: Path) -> None:
    """Put the COCO detector into a store, as what it is."""
    _place(file, _model(store, "ssd", ONNX + SSD_TENSORS) / "model.onnx")


def write_python_ssd(store: Path, file: Path) -> None:
    """Put the COCO detector into a store as a model in Python that runs it with onnxruntime."""
    folder = _model(store, "ssd", PYTHON + SSD_TENSORS)
    _place(file, folder / "model.onnx")
    (folder / "model.py").write_text(PYTHON_SSD)


def write_take(store: Path) -> None:
    """Put a model into a store that takes an image and does next to nothing with it."""
    helper = onnx.helper
    starts, ends, axes = ([0, 0, 0], [1, 1, 1], [1, 2, 3])
    constants = [
        helper.make_tensor(name, onnx.TensorProto.INT64, [len(values)], values)
        for name, values in (("starts", starts), ("ends", ends), ("axes", axes), ("shape", [-1, 1]))
    ]
    nodes = [
        helper.make_node("Slice", ["images", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("Reshape", ["corner", "shape"], ["first"]),
    ]
    model = _Onnx(nodes, ("images", ["batch", *IMAGE_SHAPE]), ("first", ["batch", 1]), constants)
    model.save(_model(store, "take", ONNX + TAKE_TENSORS) / "model.onnx")


def identity_model(ballast_bytes: int = 0) -> _Onnx:
    """Return the ONNX model; a part of it that long is of no use, so that writing it takes a while."""
    ballast = np.frombuffer(os.urandom(ballast_bytes), np.uint8)
    constants = [onnx.numpy_helper.from_array(ballast, "ballast")] if ballast_bytes else []
    nodes = [onnx.helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
    return _Onnx(nodes, ("INPUT0", ["batch", SIDE]), ("OUTPUT0", ["batch", SIDE]), constants)


class _Onnx:
    def __init__(self, nodes, given, made, constants) -> None:
        helper = onnx.helper
        tensors = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in (given, made)
        ]
        graph = helper.make_graph(nodes, "bench", tensors[:1], tensors[1:], constants)
        self._model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def save(self, file: Path) -> None:
        onnx.save(self._model, file)

    def as_bytes(self) -> bytes:
        return self._model.SerializeToString()


def _model(store: Path, name: str, config: str) -> Path:
    """Make a model's folder and return that of its version."""
    folder = store / name / "1"
    folder.mkdir(parents=True)
    (store / name / "config.pbtxt").write_text(config)
    return folder


def _place(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system
        shutil.copyfile(file, target)
