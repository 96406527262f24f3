"""What an engine says of itself, in edgert's words."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from edgert.errors import ModelError
from edgert.execute.engine import EngineInfo, LayerInfo, ProfileRange
from edgert.execute.tensorrt_allocator import OwnedMemory, make_allocator
from edgert.execute.tensorrt_describe import read_details, read_info, read_profiles
from edgert.execute.tensorrt_engine import TensorRTParts
from edgert.execute.tensorrt_log import EngineLog
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.noted_device import NotedDriver
from tests.fakes.tensorrt_runtime import INPUT, OUTPUT, FakePlan, FakeTensorRT

PLAN = Path("store/m/1/model.plan")
X, Y = ("x", INPUT, "float32", (-1, 4)), ("y", OUTPUT, "float32", (-1, 4))
UP_TO_8 = {"x": ((1, 4), (4, 4), (8, 4))}


class Loaded:
    """A fake engine with the parts around it."""

    def __init__(self, plan=None, **module):
        self.trt = FakeTensorRT(plan, **module)
        bindings, memory = self.trt.bindings(), OwnedMemory(NotedDriver(), "model m")
        log = EngineLog(self.trt, PLAN)
        runtime, allocator = self.trt.Runtime(log.logger), make_allocator(bindings, memory)
        runtime.gpu_allocator = allocator
        engine = runtime.deserialize_cuda_engine(b"plan")
        self.parts = TensorRTParts(engine, runtime, allocator, memory, log, bindings)

    def info(self):
        return read_info(PLAN, self.parts.bindings, self.parts.engine)

    def profiles(self):
        return read_profiles(self.parts.engine, self.info())

    def details(self):
        return read_details(self.parts, self.profiles())

    def close(self):
        self.parts.engine = None
        self.parts.runtime = None


@pytest.fixture
def load():
    opened = []

    def loaded(*tensors, module=None, **plan):
        opened.append(Loaded(FakePlan(*tensors, **plan), **(module or {})))
        return opened[-1]

    yield loaded
    for each in opened:
        each.close()


# Tensors


def test_tensors_are_told_in_the_engines_order_with_numpys_types(load):
    info = load(
        *(
            ("b", OUTPUT, "int64", (-1, 2)),
            ("x", INPUT, "float16", (-1, 3, 8, 8)),
            ("a", OUTPUT, "uint8", (-1,)),
        ),
        profiles=({"x": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))},),
    ).info()
    assert info == EngineInfo(
        "tensorrt",
        (TensorSpec("x", "float16", (-1, 3, 8, 8)),),
        (TensorSpec("b", "int64", (-1, 2)), TensorSpec("a", "uint8", (-1,))),
        batches=True,
    )


def test_the_runtime_is_the_one_that_loaded_it(load):
    assert load(module={"runtime": "tensorrt_rtx", "version": (1, 4, 0)}).info().runtime == "tensorrt_rtx"


def test_a_type_that_numpy_does_not_have_is_refused_by_name(load):
    loaded = load(("x", INPUT, "bfloat16", (-1, 4)), Y)
    with pytest.raises(
        ModelError, match=rf"^{PLAN}: tensor x has type bfloat16, which edgert cannot feed\.$"
    ):
        loaded.info()


def test_a_tensor_that_is_a_shape_is_refused_by_name(load):
    loaded = load(X, ("sides", INPUT, "int32", (2,)), Y)
    loaded.trt.plan.shape_tensors = ("sides",)
    with pytest.raises(ModelError, match="tensor sides is a shape, not pixels"):
        loaded.info()


def test_an_engine_without_inputs_says_so(load):
    loaded, inputs = load(("y", OUTPUT, "float32", (1, 4)), profiles=()), None
    with suppress(IndexError):
        inputs = loaded.info().inputs
    assert inputs == ()


# Batches


def test_an_engine_without_open_sides_does_not_batch(load):
    info = load(("x", INPUT, "float32", (2, 4)), ("y", OUTPUT, "float32", (2, 4)), profiles=()).info()
    assert (info.batches, info.fixed_batch) == (False, 2)


def test_an_output_whose_batch_the_one_profile_has_fixed_is_open_all_the_same(load):
    """TensorRT folds the batch axis where every profile allows one size."""
    info = load(X, ("y", OUTPUT, "float32", (4, 7)), profiles=({"x": ((4, 4), (4, 4), (4, 4))},)).info()
    assert info.outputs == (TensorSpec("y", "float32", (-1, 7)),)
    assert info.batches


@pytest.mark.parametrize(
    ("output", "profile"),
    [
        ((5, 7), ((4, 4), (4, 4), (4, 4))),
        ((4, 7), ((1, 4), (4, 4), (4, 4))),
        ((4, 7), ((4, 4), (4, 4), (8, 4))),
        ((), ((4, 4), (4, 4), (4, 4))),
    ],
    ids=["another size", "smaller ones too", "larger ones too", "no axes"],
)
def test_an_output_that_is_not_as_long_as_the_batch_is_left_as_it_is(load, output, profile):
    info = load(X, ("y", OUTPUT, "float32", output), profiles=({"x": profile},)).info()
    assert info.outputs[0].shape == output
    assert not info.batches


# Profiles


def test_every_profile_is_told_by_input(load):
    profiles = ({"x": ((1, 4), (1, 4), (1, 4))}, {"x": ((2, 4), (4, 4), (8, 4))})
    assert load(profiles=profiles).profiles() == (
        {"x": ProfileRange((1, 4), (1, 4), (1, 4))},
        {"x": ProfileRange((2, 4), (4, 4), (8, 4))},
    )


def test_an_input_of_fixed_sides_has_them_as_its_range(load):
    loaded = load(X, ("z", INPUT, "float32", (3,)), Y, profiles=(UP_TO_8,))
    assert loaded.profiles()[0]["z"] == ProfileRange((3,), (3,), (3,))


def test_an_engine_without_profiles_has_one_of_its_own_sides(load):
    loaded = load(("x", INPUT, "float32", (2, 4)), ("y", OUTPUT, "float32", (2, 4)), profiles=())
    assert loaded.profiles() == ({"x": ProfileRange((2, 4), (2, 4), (2, 4))},)


# Details


def test_memory_streams_and_refitting_are_told(load):
    details = load(weights_bytes=5000, scratch_bytes=100).details()
    assert (details.weights_bytes, details.scratch_bytes) == (5000, 6400)
    assert (details.auxiliary_streams, details.is_refittable) == (2, True)
    assert details.profiles[0]["x"].maximum == (8, 4)


def test_layers_are_told_as_far_as_the_engine_was_built_to_tell_them(load):
    layers = [
        {
            "Name": "conv1",
            "LayerType": "CaskConvolution",
            "TacticName": "sm80_xmma",
            "Outputs": [{"Format/Datatype": "Half"}],
        },
        {"Name": "none", "Outputs": []},
        "only a name",
    ]
    assert load(layers=layers).details().layers == (
        LayerInfo("conv1", "CaskConvolution", "sm80_xmma", "Half"),
        LayerInfo("none"),
        LayerInfo("only a name"),
    )


def test_an_engine_that_tells_nothing_of_layers_has_none(load):
    assert load(layers=None).details().layers == ()


def test_a_runtime_without_an_inspector_is_not_asked_for_layers(load, monkeypatch):
    lean = load(layers=["conv1"], module={"runtime": "tensorrt_lean", "version": (10, 16, 1)})
    monkeypatch.setattr(lean.parts.engine, "create_engine_inspector", lambda: 1 / 0)
    assert lean.details().layers == ()
