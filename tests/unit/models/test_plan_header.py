"""What an engine file says of itself. The plans here are real ones, built by TensorRT-RTX on the CPU."""

from __future__ import annotations

import re
import struct

import pytest

from edgert.errors import ModelError
from edgert.models.plan_header import PlanHeader, read_plan_header

HEADER_BYTES = 28


@pytest.fixture
def plan_file(make_onnx, tmp_path):
    """Build a real engine, as no test should describe the format to itself."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install tensorrt-rtx-cu13")
    onnx_file = make_onnx([("Relu", ["x"], ["y"])], {"x": ("float32", [1, 4])}, {"y": ("float32", [1, 4])})
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(onnx_file.read_bytes())
    file = tmp_path / "model.plan"
    file.write_bytes(builder.build_serialized_network(network, builder.create_builder_config()))
    return file


def write(folder, content):
    file = folder / "model.plan"
    file.write_bytes(content)
    return file


def tensorrt_plan(serialization=0, version=(10, 3, 0, 30)):
    """Return a header as trtexec reads it; TensorRT itself needs a GPU to write one."""
    return struct.pack("<4sI16x4B", b"ftrt", serialization, *version) + b"\0" * 100


def test_a_plan_of_tensorrt_rtx_tells_its_version_and_size(plan_file):
    import tensorrt_rtx as trt

    assert read_plan_header(plan_file) == PlanHeader(
        tag="vtrt",
        family="tensorrt_rtx",
        serialization=0,
        version=tuple(int(number) for number in re.findall(r"\d+", trt.__version__)),
        plan_bytes=plan_file.stat().st_size,
    )


def test_a_plan_of_tensorrt_tells_its_version(tmp_path):
    header = read_plan_header(write(tmp_path, tensorrt_plan()))
    assert header == PlanHeader("ftrt", "tensorrt", 0, (10, 3, 0, 30), None)


def test_a_serialization_of_the_future_tells_no_version(tmp_path):
    header = read_plan_header(write(tmp_path, tensorrt_plan(serialization=7)))
    assert header == PlanHeader("ftrt", "tensorrt", 7, (), None)


@pytest.mark.parametrize("left", [HEADER_BYTES, 1000, -1])
def test_a_truncated_plan_is_refused(plan_file, left):
    content = plan_file.read_bytes()
    plan_file.write_bytes(content[:left])
    expected = (
        rf"model\.plan: the engine is truncated: it says that it has {len(content)} bytes, "
        rf"the file has {plan_file.stat().st_size}\. Copy the file again"
    )
    with pytest.raises(ModelError, match=expected):
        read_plan_header(plan_file)


def test_a_plan_with_something_behind_it_is_refused(plan_file):
    plan_file.write_bytes(plan_file.read_bytes() + b"\n")
    with pytest.raises(ModelError, match="damaged or joined with something else: it says that it has"):
        read_plan_header(plan_file)


@pytest.mark.parametrize("length", [4, HEADER_BYTES - 1])
def test_less_than_a_header_is_refused(plan_file, length):
    plan_file.write_bytes(plan_file.read_bytes()[:length])
    with pytest.raises(ModelError, match=f"truncated: it has {length} bytes, its header alone has 28"):
        read_plan_header(plan_file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the engine is empty \(0 bytes\)\. Copy the file again"),
        (b"garbage, plainly", "it begins with 67 61 72 62 61 67 65 2c, expected 'ftrt' .* or 'vtrt'"),
        (b"ftr", "it begins with 66 74 72, expected 'ftrt'"),
        (b"\0" * 64, "it begins with 00 00 00 00 00 00 00 00, expected"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.* git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 40, "a ZIP file, such as a PyTorch model"),
        (b"TRT-100300-EntropyCalibration2\nx: 3c010a14\n", "a calibration cache, not an engine"),
    ],
)
def test_what_is_no_engine_is_called_what_it_is(tmp_path, content, message):
    with pytest.raises(ModelError, match=rf"model\.plan: .*{message}"):
        read_plan_header(write(tmp_path, content))


def test_an_onnx_model_is_recognised(make_onnx):
    file = make_onnx([("Relu", ["x"], ["y"])], {"x": ("float32", [1])}, {"y": ("float32", [1])})
    with pytest.raises(ModelError, match=r"perhaps an ONNX model\. Build an engine from it: edgert build"):
        read_plan_header(file)


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"model\.plan: the engine cannot be read: No such file"):
        read_plan_header(tmp_path / "model.plan")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        read_plan_header(tmp_path)
