"""The others' quantizers as the bench runs them."""

import sys

import numpy as np
import onnx
import pytest

from edgert.prepare.options import PrepareOptions
from tests.int8_bench.fashion_cnn import as_onnx
from tests.int8_bench.fashion_training import new_weights
from tests.int8_bench.frame_reader import FrameReader
from tests.int8_bench.measured import QuantizationError, Task
from tests.int8_bench.peers import modelopt_peers, modelopt_version, onnxruntime_peers
from tests.int8_bench.session import run_model, speed_ratio


@pytest.fixture
def task(tmp_path):
    onnx.save(as_onnx(new_weights(2)), tmp_path / "model.onnx")
    tensors = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)
    np.save(tmp_path / "tensors.npy", tensors)
    files = tmp_path / "model.onnx", PrepareOptions(), tmp_path, tmp_path / "tensors.npy"
    return Task("fashion", *files, frames=8)


def peer(title):
    return next(candidate for candidate in onnxruntime_peers() if candidate.title == title)


def consumers(model, tensor):
    return [node.op_type for node in model.graph.node if tensor in node.input]


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_onnxruntime_for_tensorrt_gives_what_it_can_fuse(task, tmp_path, method):
    out = tmp_path / "int8.onnx"
    measured = peer(f"onnxruntime, for TensorRT, {method}").quantize(task, out)
    model = onnx.load(out)
    nodes = model.graph.node
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    made_by = {node.output[0]: node.op_type for node in nodes}
    assert [made_by.get(name) for node in convolutions for name in node.input] == [
        *("DequantizeLinear", "DequantizeLinear", None),  # the bias stays FP32
    ] * 2
    assert all(consumers(model, node.output[0]) == ["Relu"] for node in convolutions)
    assert measured.frames == 8
    assert measured.call_s < measured.wall_s


def test_frames_are_spread_and_can_be_read_again(task):
    tensors, reader = np.load(task.tensors), FrameReader(str(task.model), str(task.tensors), 4)
    for _ in range(2):
        assert reader.get_first()["images"] == pytest.approx(tensors[:1])
        frames = list(iter(reader.get_next, None))
        assert np.concatenate([frame["images"] for frame in frames]) == pytest.approx(tensors[::2])
        reader.rewind()
    assert len(reader) == 4


def test_onnxruntime_s_defaults_are_left_alone(task, tmp_path):
    out = tmp_path / "int8.onnx"
    peer("onnxruntime, defaults").quantize(task, out)
    dequantized = {node.input[0] for node in onnx.load(out).graph.node if node.op_type == "DequantizeLinear"}
    assert {"conv1.weight_quantized", "conv1.bias_quantized"} <= dequantized


def test_a_quantized_file_runs_near_fp32(task, tmp_path):
    out = tmp_path / "int8.onnx"
    peer("onnxruntime, for TensorRT, minmax").quantize(task, out)
    tensors = np.load(task.tensors)
    reference, found = (run_model(path, tensors, 3)["logits"] for path in (task.model, out))
    assert reference.shape == found.shape == (8, 10)
    assert 0 < np.abs(reference - found).max() < 0.05 * np.abs(reference).max()
    assert speed_ratio(out, task.model, tensors[:1])["ratio"] > 0


def test_a_model_that_is_none_is_a_failure(task, tmp_path):
    task.model.write_bytes(b"no model")
    with pytest.raises(QuantizationError, match="status 1"):
        peer("onnxruntime, defaults").quantize(task, tmp_path / "int8.onnx")


def test_an_interpreter_without_modelopt_has_no_version():
    assert modelopt_version(None) == ""
    assert modelopt_version("/nowhere/python") == ""
    assert modelopt_version("/bin/false") == ""


def test_modelopt_that_cannot_be_imported_is_a_failure(task, tmp_path):
    with pytest.raises(QuantizationError, match="modelopt"):
        modelopt_peers(sys.executable)[0].quantize(task, tmp_path / "int8.onnx")
