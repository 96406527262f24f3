"""One execution context: which shapes it covers, and what TensorRT is told when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgert.errors import ModelError
from edgert.execute.engine import EngineInfo, ProfileRange
from edgert.execute.tensorrt_context import TensorRTContext
from edgert.execute.tensorrt_log import EngineLog
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.tensorrt_runtime import INPUT, OUTPUT, USER_MANAGED, FakePlan, FakeTensorRT

PLAN = Path("store/m/1/model.plan")
STREAM = SimpleNamespace(handle=0x5000)
X, Y = TensorSpec("x", "float32", (-1, 4)), TensorSpec("y", "float32", (-1, 4))


class Memory:
    """Takes and gives without counting."""

    def allocate_async(self, *_):
        return 0x1000

    def deallocate_async(self, *_):
        return True


class Rig:
    """A context of edgert's over one of the fake's."""

    def __init__(self, plan=None, *, max_batch=8, batches=True, inputs=(X,), outputs=(Y,)):
        self.trt = FakeTensorRT(plan)
        log = EngineLog(self.trt, PLAN)
        self.runtime = self.trt.Runtime(log.logger)
        self.runtime.gpu_allocator = self._memory = Memory()
        self.engine = self.runtime.deserialize_cuda_engine(b"plan")
        self.raw = self.engine.create_execution_context(USER_MANAGED)
        ranges = {
            name: ProfileRange(*shapes) for name, shapes in (self.trt.plan.profiles or [{}])[0].items()
        } or {spec.name: ProfileRange(spec.shape, spec.shape, spec.shape) for spec in inputs}
        info = EngineInfo("tensorrt", inputs, outputs, batches)
        self.context = TensorRTContext(
            self.raw, info, ranges, max_batch, log, "model m lane 1", needs_scratch=True
        )

    def calls(self, kind):
        return [call[1:] for call in self.raw.calls if call[0] == kind]

    def close(self):
        self.raw = None
        self.context.close()
        self.engine = None
        self.runtime = None


@pytest.fixture
def open_rig():
    rigs = []

    def opened(*arguments, **options):
        rigs.append(Rig(*arguments, **options))
        return rigs[-1]

    yield opened
    for rig in rigs:
        rig.close()


# Shapes


@pytest.mark.parametrize(
    ("shape", "is_covered"),
    [((1, 4), True), ((8, 4), True), ((9, 4), False), ((0, 4), False), ((2, 5), False), ((2, 4, 1), False)],
)
def test_covers_what_lies_within_the_profile(open_rig, shape, is_covered):
    assert open_rig().context.covers((shape,)) == is_covered


def test_covers_shapes_only_if_every_input_does(open_rig):
    plan = FakePlan(
        *(
            ("x", INPUT, "float32", (-1, 4)),
            ("z", INPUT, "float32", (-1, 1)),
            ("y", OUTPUT, "float32", (-1, 4)),
        ),
        profiles=({"x": ((1, 4), (1, 4), (8, 4)), "z": ((1, 1), (1, 1), (2, 1))},),
    )
    context = open_rig(plan, inputs=(X, TensorSpec("z", "float32", (-1, 1)))).context
    assert context.covers(((2, 4), (2, 1)))
    assert not context.covers(((3, 4), (3, 1)))


@pytest.mark.parametrize(("max_batch", "largest"), [(3, 3), (8, 8), (20, 8)])
def test_the_largest_batch_is_the_lanes_or_the_profiles(open_rig, max_batch, largest):
    rig = open_rig(max_batch=max_batch)
    assert rig.context.largest() == {"x": (largest, 4), "y": (largest, 4)}
    assert rig.context.scratch_bytes((1, largest)) == 100 * largest


def test_scratch_memory_suffices_for_every_size_not_only_the_largest(open_rig, monkeypatch):
    rig = open_rig(max_batch=8)
    needed = {1: 700, 2: 300, 8: 500}
    monkeypatch.setattr(
        rig.raw, "update_device_memory_size_for_shapes", lambda: needed[rig.raw.shapes["x"][0]], raising=False
    )
    assert rig.context.scratch_bytes((1, 2, 8)) == 700


def test_scratch_memory_that_cannot_be_told_is_no_zero(open_rig, monkeypatch):
    rig = open_rig(max_batch=8)
    monkeypatch.setattr(rig.raw, "update_device_memory_size_for_shapes", lambda: 0, raising=False)
    with pytest.raises(ModelError, match="does not say what scratch memory"):
        rig.context.scratch_bytes((8,))


def test_an_engine_that_does_not_batch_keeps_its_sides(open_rig):
    plan = FakePlan(("x", INPUT, "float32", (6, 4)), ("y", OUTPUT, "float32", (6, 4)), profiles=())
    x, y = TensorSpec("x", "float32", (6, 4)), TensorSpec("y", "float32", (6, 4))
    rig = open_rig(plan, max_batch=1, batches=False, inputs=(x,), outputs=(y,))
    assert rig.context.largest() == {"x": (6, 4), "y": (6, 4)}


def test_shapes_are_told_once_until_they_change(open_rig):
    rig = open_rig()
    for batch in (2, 2, 3, 2):
        assert rig.context.set_shapes(((batch, 4),)) == {"y": (batch, 4)}
    assert rig.calls("shape") == [("x", (2, 4)), ("x", (3, 4)), ("x", (2, 4))]


def test_shapes_that_tensorrt_refuses_are_told_with_its_words(open_rig):
    rig = open_rig()
    rig.trt.refuses["shape"] = "Parameter check failed: outside the profile"
    with pytest.raises(ModelError) as refused:
        rig.context.set_shapes(((2, 4),))
    assert str(refused.value) == (
        "model m lane 1: TensorRT refuses x [2, 4]: Parameter check failed: outside the profile"
    )


def test_shapes_that_were_refused_are_told_again(open_rig):
    rig = open_rig()
    rig.context.set_shapes(((2, 4),))
    rig.trt.refuses["shape"] = "no"
    with pytest.raises(ModelError):
        rig.context.set_shapes(((3, 4),))
    rig.trt.refuses.clear()
    assert rig.context.set_shapes(((2, 4),)) == {"y": (2, 4)}
    assert rig.calls("shape")[-1] == ("x", (2, 4))


def test_outputs_whose_size_depends_on_the_data_are_refused_with_a_remedy(open_rig):
    plan = FakePlan(("x", INPUT, "float32", (-1, 4)), ("y", OUTPUT, "float32", (-1, -2)))
    context = open_rig(plan).context
    for _ in range(2):  # also when the same shapes are asked for again
        with pytest.raises(ModelError, match=r"output y \[2, -2\] depends on the data.*edgert build --top-k"):
            context.set_shapes(((2, 4),))


def test_an_output_that_is_one_number_has_a_size(open_rig):
    plan = FakePlan(("x", INPUT, "float32", (-1, 4)), ("y", OUTPUT, "float32", ()))
    assert open_rig(plan).context.set_shapes(((2, 4),)) == {"y": ()}


# Runs


@pytest.fixture
def ready(open_rig):
    """A context with scratch memory and shapes."""
    rig = open_rig()
    rig.context.set_scratch(0x9000, 800)
    rig.context.set_shapes(((2, 4),))
    return rig


def test_scratch_memory_is_handed_on(open_rig):
    rig = open_rig()
    rig.context.set_scratch(0x9000, 800)
    assert rig.raw.scratch == (0x9000, 800)


def buffers():
    """Return the addresses of two tensors, and the arrays that are there."""
    kept = {name: np.zeros((2, 4), np.float32) for name in ("x", "y")}
    return {name: array.ctypes.data for name, array in kept.items()}, kept


def test_a_run_reads_and_writes_at_the_addresses(ready):
    tensors, kept = buffers()
    kept["x"][:] = 3
    ready.context.enqueue(tensors, STREAM)
    assert (kept["y"] == 3).all()
    assert ready.calls("run") == [(STREAM.handle,)]


def test_addresses_are_told_once_for_a_binding(ready):
    first, _kept = buffers()
    second, _kept_too = buffers()
    for tensors in (first, first, second, first):
        ready.context.enqueue(tensors, STREAM)
    told = [*first.items(), *second.items(), *first.items()]
    assert ready.calls("address") == told
    assert len(ready.calls("run")) == 4


def test_an_address_that_tensorrt_refuses_is_told_and_told_again(ready):
    tensors, _kept = buffers()
    ready.trt.refuses["address"] = "not aligned"
    with pytest.raises(ModelError, match="model m lane 1: TensorRT refuses an address for x: not aligned"):
        ready.context.enqueue(tensors, STREAM)
    ready.trt.refuses.clear()
    ready.context.enqueue(tensors, STREAM)
    assert ready.raw.addresses == tensors


def test_after_a_refusal_the_addresses_from_before_are_told_again(ready):
    first, _kept = buffers()
    second, _kept_too = buffers()
    ready.context.enqueue(first, STREAM)
    ready.trt.refuses["address"] = "not aligned"
    with pytest.raises(ModelError):
        ready.context.enqueue(second, STREAM)
    ready.trt.refuses.clear()
    ready.raw.calls.clear()
    ready.context.enqueue(first, STREAM)
    assert ready.calls("address") == list(first.items())


def test_a_run_that_tensorrt_refuses_is_told_with_its_words(ready):
    tensors, _kept = buffers()
    ready.trt.refuses["run"] = "[x.cpp::f::1] Error Code 1: Cuda Runtime (out of resources)"
    with pytest.raises(ModelError, match=r"model m lane 1: TensorRT did not run: .*out of resources"):
        ready.context.enqueue(tensors, STREAM)


def test_a_refusal_without_words_says_so(ready, monkeypatch):
    tensors, _kept = buffers()
    monkeypatch.setattr(ready.raw, "execute_async_v3", lambda stream: False)
    with pytest.raises(ModelError, match="TensorRT did not run: it does not say why"):
        ready.context.enqueue(tensors, STREAM)


def test_closing_lets_tensorrt_free_the_context(open_rig):
    rig = open_rig()
    rig.raw = None
    assert rig.trt.freed == []
    rig.context.close()
    assert rig.trt.freed == [("context", True)]
