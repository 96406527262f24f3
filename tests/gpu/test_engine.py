"""Engines on a device: numbers, memory, and files that are not what they should be."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edgert.errors import EngineMismatchError, ModelError, OutOfDeviceMemoryError
from tests.gpu.conftest import filler, run
from tests.gpu.plans import batches, build_plan

pytestmark = pytest.mark.gpu


@pytest.fixture
def adder(make_onnx):
    """A plan: y = x + x, batches 1 to 8 of 4."""
    model = make_onnx(
        [("Add", ["x", "x"], ["y"])], {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}
    )
    return build_plan(model, model.with_name("model.plan"), batches("x", (4,), 8))


def test_tells_tensors_profiles_and_layers(load, adder):
    engine = load(adder)
    [x], [y] = engine.info.inputs, engine.info.outputs
    assert (x.name, x.dtype, x.shape) == ("x", "float32", (-1, 4))
    assert (y.name, y.dtype, y.shape) == ("y", "float32", (-1, 4))
    assert engine.info.batches
    details = engine.details()
    assert details.profiles[0]["x"].maximum == (8, 4)
    assert details.layers
    assert all(layer.name for layer in details.layers)


@pytest.mark.parametrize("graphs", [0, 8])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_computes_what_numpy_does(load, adder, pinned, graphs, count):
    from edgert.execute.engine import LaneOptions

    lane = load(adder).open_lane(8, lambda: None, LaneOptions(graphs=graphs))
    for turn in range(5):
        x = np.random.default_rng(turn).standard_normal((count, 4), np.float32)
        y = run(lane, filler("x", pinned(x), x.shape))["y"]
        np.testing.assert_array_equal(y[:count], x + x)
    assert bool(lane.runner.launched) == bool(graphs)


def test_a_plan_with_fixed_sides(load, make_onnx, pinned):
    model = make_onnx([("Mul", ["x", "x"], ["y"])], {"x": ("float32", [1, 5])}, {"y": ("float32", [1, 5])})
    engine = load(build_plan(model, model.with_name("model.plan")))
    assert engine.info.fixed_batch == 1
    lane = engine.open_lane(1, lambda: None)
    x = np.arange(5, dtype=np.float32)[None]
    np.testing.assert_array_equal(run(lane, filler("x", pinned(x), x.shape))["y"], x * x)


def test_one_profile_for_each_batch_size(load, make_onnx, pinned):
    model = make_onnx(
        [("Add", ["x", "x"], ["y"])], {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}
    )
    profiles = [batches("x", (4,), size, smallest=size) for size in (1, 4)]
    lane = load(build_plan(model, model.with_name("model.plan"), *profiles)).open_lane(4, lambda: None)
    for count in (1, 2, 4, 1):
        x = np.full((count, 4), count, np.float32)
        np.testing.assert_array_equal(run(lane, filler("x", pinned(x), x.shape))["y"][:count], 2 * x)


def test_memory_of_an_engine_is_counted_and_given_back(load, device, adder):
    engine = load(adder)
    lane = engine.open_lane(8, lambda: None)
    owners = device.driver.budget.by_owner()
    assert owners["model test"].used_bytes > 0
    lane.close()
    engine.close()
    assert device.driver.budget.used_bytes == 0


def test_weights_beyond_the_budget_are_refused_with_who_holds_what(load, device, make_onnx, tmp_path):
    from tests.gpu.resnet import write_resnet50

    plan = build_plan(write_resnet50(tmp_path / "r.onnx", batch=1), tmp_path / "m" / "1" / "model.plan")
    held = device.driver.allocate(1000, owner="somebody")
    with pytest.raises(OutOfDeviceMemoryError, match=r"in use by model test"):
        load(plan, memory_mb=1)
    held.free()


@pytest.mark.parametrize("name", ["garbage", "empty", "truncated", "foreign"])
def test_files_that_are_no_plan_for_this_runtime_are_told(load, adder, name):
    plan = adder.read_bytes()
    content = {
        "garbage": os.urandom(4096),
        "empty": b"",
        "truncated": plan[: len(plan) // 2],
        "foreign": b"ftrt" + plan[4:],
    }[name]
    adder.write_bytes(content)
    with pytest.raises(EngineMismatchError if name == "foreign" else ModelError, match=str(adder.name)):
        load(adder)


def test_a_plan_of_another_release_is_a_mismatch(load, adder):
    plan = bytearray(adder.read_bytes())
    plan[24:28] = bytes([9, 9, 9, 9])
    adder.write_bytes(plan)
    with pytest.raises(ModelError, match=str(adder.name)):
        load(adder)


def test_compiled_kernels_are_kept_for_the_next_start(load, adder, tmp_path):
    engine = load(adder)
    lane = engine.open_lane(8, lambda: None)
    engine.warmed()
    lane.close()
    kept = list((tmp_path / "cache" / "runtime").glob("*.cache"))
    assert len(kept) == 1
    assert kept[0].stat().st_size > 0


def test_loading_and_unloading_leaves_no_memory(load, device, adder, pinned):
    x = np.ones((2, 4), np.float32)
    source = pinned(x)

    def cycle():
        engine = load(adder)
        lane = engine.open_lane(8, lambda: None)
        run(lane, filler("x", source, x.shape))
        lane.close()
        engine.close()

    for _ in range(3):
        cycle()
    before = device.driver.memory_info()[0]
    for _ in range(20):
        cycle()
    assert before - device.driver.memory_info()[0] <= 4 << 20
