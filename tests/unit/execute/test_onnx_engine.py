from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from edgert.device.host import HostDriver
from edgert.device.memory import Budget
from edgert.errors import EngineMismatchError, ModelError, OutOfDeviceMemoryError
from edgert.execute import onnx_engine
from edgert.execute.engine import EngineInfo
from edgert.execute.onnx_engine import OnnxEngine, load_onnx_engine
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.lane import TIMEOUT_S, Bell
from tests.fakes.onnx_graphs import quantized_convolution

F32 = "float32"
DOUBLE = [("Add", ["x", "x"], ["y"])]
FIND = [("NonZero", ["x"], ["where"])]


class Runner:
    """An engine with one lane, run batch by batch."""

    def __init__(self, file, max_batch=4, limit_bytes=0):
        self.driver = HostDriver(Budget(limit_bytes))
        self.engine = load_onnx_engine(file, 1, self.driver.allocate)
        self.lanes = []
        self.max_batch = max_batch
        self.input_pointers = set()
        self.output_pointers = set()
        self.bell = Bell()

    def open_lane(self):
        self.lanes.append(self.engine.open_lane(self.max_batch, self.bell))
        return self.lanes[-1]

    def complete(self, **arrays):
        """Run the arrays through the first lane, always in the same buffer set."""
        lane = self.lanes[0] if self.lanes else self.open_lane()
        buffers = lane.acquire()
        while buffers.index:
            lane.release(buffers)
            buffers = lane.acquire()
        lane.submit(buffers, lambda own: self._fill(own, arrays), None)
        completed = self.bell.next_from(lane)
        lane.release(buffers)
        return completed

    def run(self, **arrays):
        """Return copies of the outputs."""
        completed = self.complete(**arrays)
        if completed.error:
            raise completed.error
        outputs = completed.buffers.outputs()
        self.output_pointers |= {array.ctypes.data for array in outputs.values()}
        return {name: np.copy(array) for name, array in outputs.items()}

    def close(self):
        for lane in self.lanes:
            lane.close()
        self.engine.close()

    def _fill(self, buffers, arrays):
        inputs = buffers.inputs({name: array.shape for name, array in arrays.items()})
        for name, array in arrays.items():
            inputs[name][:] = array
        self.input_pointers |= {array.ctypes.data for array in inputs.values()}


@pytest.fixture
def make_runner(make_onnx):
    made = []

    def make(nodes, inputs, outputs, *, max_batch=4, limit_bytes=0, **options):
        made.append(Runner(make_onnx(nodes, inputs, outputs, **options), max_batch, limit_bytes))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


@pytest.fixture
def doubler(make_runner):
    return make_runner(DOUBLE, {"x": (F32, ["n", 3])}, {"y": (F32, ["n", 3])})


def rows(count, width=3, start=0.0):
    return np.arange(start, start + count * width, dtype=np.float32).reshape(count, width)


# What the file says


def test_describes_a_model_with_a_variable_batch(doubler):
    x, y = TensorSpec("x", F32, (-1, 3)), TensorSpec("y", F32, (-1, 3))
    assert doubler.engine.info == EngineInfo("onnxruntime", (x,), (y,), batches=True)
    assert doubler.engine.info.fixed_batch is None


def test_describes_a_model_with_a_fixed_batch(make_runner):
    info = make_runner(DOUBLE, {"x": (F32, [2, 3])}, {"y": (F32, [2, 3])}).engine.info
    assert not info.batches
    assert info.fixed_batch == 2


def test_one_output_without_batch_axis_means_that_the_model_does_not_batch(make_runner):
    nodes = [*DOUBLE, ("Size", ["x"], ["size"])]
    outputs = {"y": (F32, ["n", 3]), "size": ("int64", [])}
    assert not make_runner(nodes, {"x": (F32, ["n", 3])}, outputs).engine.info.batches


# Running


def test_batches_of_every_size_give_right_results(doubler):
    for count in (4, 1, 3, 2, 4, 1):
        x = rows(count, start=count)
        np.testing.assert_array_equal(doubler.run(x=x)["y"], 2 * x)


def test_batches_of_every_size_use_the_same_memory(doubler):
    for count in (2, 4, 1, 4, 3):
        doubler.run(x=rows(count))
    assert len(doubler.input_pointers) == len(doubler.output_pointers) == 1
    assert doubler.driver.budget.peak_bytes == doubler.driver.budget.used_bytes == 2 * 4 * 3 * 4


def test_the_two_buffer_sets_of_a_lane_share_no_memory(doubler):
    lane = doubler.open_lane()
    first, second = lane.acquire(), lane.acquire()
    shapes = {"x": (4, 3)}
    assert not np.shares_memory(first.inputs(shapes)["x"], second.inputs(shapes)["x"])


def test_images_of_growing_and_shrinking_size_give_right_results(make_runner):
    sides = ["n", 1, "height", "width"]
    runner = make_runner(DOUBLE, {"x": (F32, sides)}, {"y": (F32, sides)})
    for count, height, width in [(1, 4, 4), (2, 8, 6), (1, 4, 4), (4, 2, 2), (2, 8, 6), (1, 16, 16)]:
        image = np.random.default_rng(height).random((count, 1, height, width), np.float32)
        np.testing.assert_array_equal(runner.run(x=image)["y"], 2 * image)


def test_smaller_images_move_to_the_memory_of_a_larger_one(make_runner):
    sides = (F32, ["n", "width"])
    runner = make_runner(DOUBLE, {"x": sides}, {"y": sides}, max_batch=1)
    runner.run(x=rows(1, 5))
    runner.run(x=rows(1, 5000))
    runner.input_pointers.clear()
    runner.run(x=rows(1, 5000))
    runner.run(x=rows(1, 5))
    assert len(runner.input_pointers) == 1
    assert runner.driver.budget.used_bytes == 5000 * 4


def test_more_shapes_than_are_kept_bound_give_right_results(make_runner):
    runner = make_runner(DOUBLE, {"x": (F32, ["n", "width"])}, {"y": (F32, ["n", "width"])})
    for width in [*range(1, 25), 1, 2, 24]:
        np.testing.assert_array_equal(runner.run(x=rows(2, width))["y"], 2 * rows(2, width))


def test_several_inputs_and_outputs_keep_their_names(make_runner):
    nodes = [("Sub", ["a", "b"], ["minus"]), ("Add", ["a", "b"], ["plus"])]
    side = (F32, ["n", 3])
    runner = make_runner(nodes, {"b": side, "a": side}, {"plus": side, "minus": side})
    outputs = runner.run(a=rows(2, start=10), b=rows(2))
    np.testing.assert_array_equal(outputs["plus"], rows(2, start=10) + rows(2))
    np.testing.assert_array_equal(outputs["minus"], np.full((2, 3), 10))


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64", "bool"]
)
def test_every_element_type_goes_through(make_runner, dtype):
    side = (dtype, ["n", 5])
    runner = make_runner([("Identity", ["x"], ["y"])], {"x": side}, {"y": side})
    sent = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]], dtype)
    received = runner.run(x=sent)["y"]
    assert received.dtype == sent.dtype
    np.testing.assert_array_equal(received, sent)


def test_half_precision_is_computed_as_such(make_runner):
    side = ("float16", ["n", 2])
    runner = make_runner(DOUBLE, {"x": side}, {"y": side})
    np.testing.assert_array_equal(runner.run(x=np.array([[0.5, 40000]], np.float16))["y"], [[1, np.inf]])


# Outputs whose size is known only afterwards


def test_outputs_of_variable_size_may_differ_from_batch_to_batch_and_be_empty(make_runner):
    runner = make_runner(FIND, {"x": (F32, [1, 6])}, {"where": ("int64", [2, "found"])})
    for found in (3, 0, 6, 1, 0):
        x = np.zeros((1, 6), np.float32)
        x[0, :found] = 1
        where = runner.run(x=x)["where"]
        assert where.shape == (2, found)
        np.testing.assert_array_equal(where[1], np.arange(found))


def test_outputs_of_fixed_and_variable_size_are_not_mixed_up(make_runner):
    nodes = [*FIND, *DOUBLE, ("NonZero", ["y"], ["again"]), ("Size", ["x"], ["size"])]
    outputs = {
        "where": ("int64", [2, "found"]),
        "y": (F32, [2, 3]),
        "again": ("int64", [2, "found"]),
        "size": ("int64", []),
    }
    runner = make_runner(nodes, {"x": (F32, [2, 3])}, outputs)
    for x in (rows(2), np.zeros((2, 3), np.float32), rows(2, start=1)):
        found = runner.run(x=x)
        np.testing.assert_array_equal(found["y"], 2 * x)
        np.testing.assert_array_equal(found["where"], np.nonzero(x))
        np.testing.assert_array_equal(found["again"], np.nonzero(x))
        assert found["size"] == 6


def test_a_variable_output_keeps_its_values_while_the_other_buffer_set_runs(make_runner):
    runner = make_runner(FIND, {"x": (F32, [1, 4])}, {"where": ("int64", [2, "found"])})
    lane = runner.open_lane()
    completed = []
    for value in (1, 0):
        lane.submit(lane.acquire(), lambda own, v=value: own.inputs({"x": (1, 4)})["x"].fill(v), value)
        completed.append(runner.bell.next_from(lane))
    full, empty = (done.buffers.outputs()["where"] for done in completed)
    assert (full.shape, empty.shape) == ((2, 4), (2, 0))
    np.testing.assert_array_equal(full[1], range(4))


# Lanes


def test_two_lanes_share_one_session_and_run_at_once(make_runner):
    runner = make_runner(DOUBLE, {"x": (F32, ["n", 3])}, {"y": (F32, ["n", 3])})
    meeting = threading.Barrier(2)
    lanes = [runner.open_lane() for _ in range(2)]

    def fill(own, value):
        own.inputs({"x": (4, 3)})["x"].fill(value)
        meeting.wait(TIMEOUT_S)  # passes only if both lanes are at work

    for round_number in range(20):
        for index, lane in enumerate(lanes):
            value = 2 * round_number + index
            lane.submit(lane.acquire(), lambda own, v=value: fill(own, v), value)
        for lane in lanes:
            completed = runner.bell.next_from(lane)
            assert completed.error is None
            output = completed.buffers.outputs()["y"]
            np.testing.assert_array_equal(output, np.full((4, 3), 2.0 * completed.tag))
            lane.release(completed.buffers)


def test_lanes_are_named_for_their_model(doubler):
    names = []
    lane = doubler.open_lane()
    lane.submit(lane.acquire(), lambda _: names.append(threading.current_thread().name), None)
    doubler.bell.next_from(lane)
    assert names == ["lane:tiny"]


def test_closing_the_lanes_frees_their_buffers(doubler):
    doubler.open_lane()
    doubler.run(x=rows(2))
    assert doubler.driver.budget.used_bytes > 0
    for lane in doubler.lanes:
        lane.close()
    assert doubler.driver.budget.used_bytes == 0


def test_a_closed_engine_opens_no_lane(doubler):
    doubler.engine.close()
    with pytest.raises(ModelError, match="closed"):
        doubler.open_lane()


# Batches that fail


def test_a_batch_over_the_memory_budget_fails_and_a_smaller_one_then_runs(make_runner):
    sides = (F32, ["n", "width"])
    runner = make_runner(DOUBLE, {"x": sides}, {"y": sides}, max_batch=1, limit_bytes=1000)
    runner.run(x=rows(1, 50))
    assert isinstance(runner.complete(x=rows(1, 500)).error, OutOfDeviceMemoryError)
    np.testing.assert_array_equal(runner.run(x=rows(1, 60))["y"], 2 * rows(1, 60))


def test_a_shape_that_the_model_refuses_is_the_batchs_error(doubler, capfd):
    error = doubler.complete(x=rows(2, width=7)).error
    assert isinstance(error, ModelError)
    assert "Expected: 3" in str(error)
    assert doubler.complete(x=rows(2)).error is None


def test_an_operator_that_fails_at_run_time_is_the_batchs_error(make_runner, capfd):
    nodes = [("Reshape", ["x", "shape"], ["y"])]
    runner = make_runner(nodes, {"x": (F32, [1, 6]), "shape": ("int64", [2])}, {"y": (F32, ["a", "b"])})
    assert isinstance(runner.complete(x=rows(1, 6), shape=np.array([4, 4])).error, ModelError)
    assert runner.run(x=rows(1, 6), shape=np.array([2, 3]))["y"].shape == (2, 3)


def test_a_batch_that_fills_nothing_fails(doubler):
    lane = doubler.open_lane()
    lane.submit(lane.acquire(), lambda _: None, None)
    completed = doubler.bell.next_from(lane)
    assert isinstance(completed.error, ModelError)
    with pytest.raises(ModelError, match="did not run"):
        completed.buffers.outputs()


# Files that cannot be loaded


def load(file):
    return load_onnx_engine(file, 1, HostDriver().allocate)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"absent\.onnx: no such engine file"):
        load(tmp_path / "absent.onnx")


@pytest.mark.parametrize("content", [b"", b"not an engine" * 99, b"\x08"])
def test_a_damaged_file_is_a_model_error(tmp_path, content):
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx: not a usable ONNX file: \w") as caught:
        load(file)
    assert type(caught.value) is ModelError
    assert "ONNXRuntimeError" not in str(caught.value)


def test_a_truncated_file_is_a_model_error(make_onnx):
    file = make_onnx(DOUBLE, {"x": (F32, ["n", 3])}, {"y": (F32, ["n", 3])})
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ModelError, match="not a usable ONNX file"):
        load(file)


@pytest.mark.parametrize(
    ("operator", "options", "said"),
    [
        ("Add", {"opset": 99}, "Opset 99"),
        ("Add", {"ir_version": 99}, "IR version: 99"),
        ("Teleport", {}, "Teleport"),
    ],
)
def test_a_file_for_another_onnxruntime_is_a_mismatch(make_onnx, operator, options, said):
    side = (F32, ["n", 3])
    file = make_onnx([(operator, ["x", "x"], ["y"])], {"x": side}, {"y": side}, **options)
    with pytest.raises(EngineMismatchError, match=said) as caught:
        load(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: onnxruntime ")
    assert text.endswith("Export the model for an older opset, or install a newer onnxruntime.")
    assert "onnxruntime_src" not in text


def test_a_tensor_of_text_is_refused_by_name(make_onnx):
    side = ("object", ["n"])
    with pytest.raises(ModelError, match=r"tensor 'words' has type tensor\(string\)"):
        load(make_onnx([("Identity", ["words"], ["y"])], {"words": side}, {"y": side}))


def test_loading_takes_no_memory_of_the_budget(doubler):
    assert isinstance(doubler.engine, OnnxEngine)
    doubler.open_lane()
    assert doubler.driver.budget.used_bytes == 0


@pytest.mark.parametrize(("options", "is_integer"), [({}, True), ({"has_integer_kernels": False}, False)])
def test_integer_kernels_run_unless_they_are_not_wanted(tmp_path, monkeypatch, options, is_integer):
    """Read from the graph that onnxruntime makes of the model."""
    made = tmp_path / "optimized.onnx"

    def session(content, session_options, **more):
        session_options.optimized_model_filepath = str(made)
        return ort.InferenceSession(content, session_options, **more)

    monkeypatch.setattr(onnx_engine, "ort", SimpleNamespace(**vars(ort) | {"InferenceSession": session}))
    model = quantized_convolution()
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["maps", "scale", "zero"], ["small_maps"]),
            helper.make_node("DequantizeLinear", ["small_maps", "scale", "zero"], ["level"]),
        ]
    )
    model.graph.output[0].name = "level"
    content = model.SerializeToString()
    load_onnx_engine(tmp_path / "m.onnx", 1, HostDriver().allocate, content, **options).close()
    operators = {node.op_type for node in onnx.load(made).graph.node}
    assert ("QLinearConv" in operators) == is_integer
    assert any(operator in ("Conv", "FusedConv") for operator in operators) != is_integer
