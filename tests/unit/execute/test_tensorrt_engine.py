"""Loading plans, opening lanes on them, and dropping everything in order; the TensorRT module is a fake."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from edgert.device.memory import Buffer
from edgert.errors import ConfigError, DeviceError, EngineMismatchError, ModelError, OutOfDeviceMemoryError
from edgert.execute.engine import LaneOptions, ProfileRange
from edgert.execute.options import EngineOptions, PluginOptions
from edgert.execute.runtime_cache import RuntimeCacheFile
from edgert.execute.tensorrt_bindings import Differences, missing_names
from edgert.execute.tensorrt_engine import load_tensorrt_engine
from tests.fakes.device_lane import fill_with
from tests.fakes.noted_device import NotedDriver, open_noted
from tests.fakes.plan_file import add_manifest, write_plan
from tests.fakes.tensorrt_runtime import INPUT, OUTPUT, FakePlan, FakeTensorRT

TWO_PROFILES = ({"x": ((1, 4), (1, 4), (1, 4))}, {"x": ((2, 4), (4, 4), (8, 4))})
RTX = {"runtime": "tensorrt_rtx", "version": (1, 4, 0, 76)}
OWNER = "model m"


class Rig:
    """A device, a plan in a store, and a TensorRT that loads it."""

    def __init__(self, folder, monkeypatch):
        self.driver = NotedDriver(compute_capability="8.7")
        self.device = open_noted(self.driver)
        self.file = folder / "store" / "m" / "1" / "model.plan"
        self._monkeypatch = monkeypatch
        self._opened = []
        self.trt = None

    def install(self, plan=None, *, runtime="tensorrt", version=(10, 3, 0, 30)):
        """Write the engine file, and install the runtime that built it."""
        tag = b"vtrt" if runtime == "tensorrt_rtx" else b"ftrt"
        write_plan(self.file, tag=tag, version=version)
        self.trt = FakeTensorRT(
            plan, runtime=runtime, version=version, is_current=lambda: self.driver.is_current
        ).put(self._monkeypatch)
        return self.trt

    def load(self, plan=None, *, runtime="tensorrt", version=(10, 3, 0, 30), **options):
        if self.trt is None:
            self.install(plan, runtime=runtime, version=version)
        engine = load_tensorrt_engine(
            self.file, self.trt.runtime, EngineOptions(**options), self.device, OWNER
        )
        return self.keep(engine)

    def open_lane(self, engine, max_batch=8, **options):
        return self.keep(engine.open_lane(max_batch, lambda: None, LaneOptions(**{"graphs": 0, **options})))

    def keep(self, part):
        """Close it at the end, before what was opened before it."""
        self._opened.append(part)
        return part

    def held_bytes(self, owner=OWNER):
        usage = self.driver.budget.by_owner().get(owner)
        return usage.used_bytes if usage else 0

    def close(self):
        with self.driver.current():
            for part in reversed(self._opened):
                part.close()
        assert self.driver.budget.used_bytes == 0, self.driver.budget.holders()


@pytest.fixture
def rig(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGERT_CACHE", str(tmp_path / "cache"))
    rig = Rig(tmp_path, monkeypatch)
    yield rig
    rig.close()


def run(rig, lane, fill):
    with rig.driver.current():
        lane.submit(lane.acquire(), fill, None)
        [completed] = lane.poll()
    return completed


def test_the_fake_has_every_name_that_running_engines_needs():
    running = Differences(
        has_builder=False,
        has_precision_flags=False,
        has_calibrators=False,
        has_runtime_config=True,
        has_runtime_cache=True,
    )
    assert list(missing_names(FakeTensorRT(), running)) == []


# Loading


def test_a_plan_is_loaded_from_its_file_and_told_in_edgerts_words(rig):
    engine = rig.load()
    [runtime] = rig.trt.runtimes
    assert runtime.content == rig.file.read_bytes()
    assert engine.is_driven
    assert engine.info.batches
    assert engine.details().profiles == ({"x": ProfileRange((1, 4), (4, 4), (8, 4))},)


def test_weights_are_counted_for_the_model_and_given_back(rig):
    engine = rig.load(FakePlan(weights_bytes=5000))
    assert rig.held_bytes() == engine.details().weights_bytes == 5000
    engine.close()
    assert rig.held_bytes() == 0


@pytest.mark.parametrize("is_allowed", [False, True])
def test_code_for_the_host_runs_only_where_it_is_allowed(rig, is_allowed):
    rig.load(host_code_allowed=is_allowed)
    assert [runtime.engine_host_code_allowed for runtime in rig.trt.runtimes] == [is_allowed]


def test_a_plan_for_another_runtime_is_refused_before_the_runtime_is_loaded(rig):
    trt = rig.install(**RTX)
    write_plan(rig.file, tag=b"ftrt")
    with pytest.raises(EngineMismatchError, match="the model's runtime is tensorrt_rtx"):
        rig.load()
    assert trt.bound == 0


def test_a_plan_of_another_release_of_tensorrt_rtx_is_refused_before_it_is_read(rig):
    trt = rig.install(**RTX)
    write_plan(rig.file, tag=b"vtrt", version=(1, 5, 0, 114))
    with pytest.raises(
        EngineMismatchError, match=r"built by TensorRT-RTX 1\.5\.0\.114; here is TensorRT-RTX 1\.4"
    ):
        rig.load()
    assert trt.freed == []


def test_a_plan_with_a_manifest_is_held_against_version_and_device(rig):
    rig.install()
    add_manifest(rig.file, compute_capabilities=("8.7",))
    rig.load()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"compute_capabilities": ("7.2",)}, r"built for compute 7\.2 .*this device is 8\.7"),
        (
            {"runtime_version": "10.7.0.1"},
            r"with TensorRT 10\.7\.0; this device is 8\.7 with TensorRT 10\.3\.0",
        ),
    ],
)
def test_a_plan_whose_manifest_does_not_fit_is_refused_before_it_is_read(rig, change, said):
    trt = rig.install()
    add_manifest(rig.file, **change)
    with pytest.raises(EngineMismatchError, match=said):
        rig.load()
    assert trt.freed == []


def test_a_plan_that_tensorrt_refuses_is_told_with_its_words_and_a_remedy(rig):
    trt = rig.install()
    trt.refuses["load"] = "[e.cpp::f::1] Error Code 1: Serialization (assertion kEND_OF_PLAN failed.)"
    with pytest.raises(ModelError, match=r"model\.plan: TensorRT does not load it: .*file is damaged"):
        rig.load()
    assert rig.held_bytes() == 0


def test_weights_beyond_the_models_bound_are_refused_with_the_bound(rig):
    rig.install(FakePlan(weights_bytes=(1 << 20) + 1))
    with pytest.raises(OutOfDeviceMemoryError, match=r"1048577 bytes with 0 of 1048576 in use by model m\."):
        rig.load(memory_mb=1)


def test_a_bound_that_was_raised_lets_the_model_in(rig):
    rig.install(FakePlan(weights_bytes=(1 << 20) + 1))
    with pytest.raises(OutOfDeviceMemoryError):
        rig.load(memory_mb=1)
    rig.load(memory_mb=2)
    assert rig.held_bytes() == (1 << 20) + 1


def test_a_budget_that_others_use_refuses_weights_with_who_holds_what(rig):
    held = rig.driver.allocate(3000, owner="source door")
    rig.driver.budget.limit_bytes = 5000
    rig.install(FakePlan(weights_bytes=4096))
    with pytest.raises(
        OutOfDeviceMemoryError, match=r"Asked for 4096 bytes with 3000 of 5000 .*source door 3000"
    ):
        rig.load()
    held.free()


def test_a_plugin_library_that_is_not_there_is_told_before_the_plan_is_read(rig):
    trt = rig.install()
    plugin = PluginOptions(file="none.so", sha256="0" * 64)
    with pytest.raises(ModelError, match=r"none\.so"):
        rig.load(plugins=(plugin,))
    assert list(trt.runtimes) == []


def test_a_runtime_that_is_not_installed_is_told(rig, monkeypatch):
    def missing(runtime):
        raise ConfigError(f"{runtime} is not installed")

    rig.install()
    monkeypatch.setattr("edgert.execute.tensorrt_engine.load_bindings", missing)
    with pytest.raises(ConfigError, match="tensorrt is not installed"):
        rig.load()


def test_tensors_that_edgert_cannot_feed_refuse_the_engine(rig):
    rig.install(FakePlan(("x", INPUT, "bfloat16", (-1, 4)), ("y", OUTPUT, "float32", (-1, 4))))
    with pytest.raises(ModelError, match="tensor x has type bfloat16"):
        rig.load()
    assert tuple(what for what, _ in rig.trt.freed) == ("engine", "runtime")
    assert rig.held_bytes() == 0


def test_an_engine_that_is_refused_is_dropped_before_its_error_is_handed_on(rig):
    trt = rig.install(FakePlan(("x", INPUT, "bfloat16", (-1, 4)), ("y", OUTPUT, "float32", (-1, 4))))
    freed = []
    try:
        rig.load()
    except ModelError:  # whoever undoes a start that failed closes the device here
        freed += trt.freed
    assert freed == [("engine", True), ("runtime", True)]


# Lanes


def test_a_lane_runs_batches(rig):
    engine = rig.load()
    lane = rig.open_lane(engine)
    completed = run(rig, lane, fill_with(3.0, 2))
    assert completed.error is None
    np.testing.assert_array_equal(completed.buffers.outputs()["y"][:2], 3.0)


def test_a_lane_has_one_context_for_each_profile_and_takes_that_which_covers(rig):
    lane = rig.open_lane(rig.load(FakePlan(profiles=TWO_PROFILES)))
    contexts = sorted(rig.trt.contexts, key=lambda context: context.profile)
    assert [context.profile for context in contexts] == [0, 1]
    run(rig, lane, fill_with(1.0, 1))
    run(rig, lane, fill_with(1.0, 3))
    assert [context.shapes["x"] for context in contexts] == [(1, 4), (4, 4)]


def test_lanes_have_scratch_memory_for_their_largest_batch(rig):
    engine = rig.load(FakePlan(weights_bytes=1000, scratch_bytes=100))
    rig.open_lane(engine, max_batch=4)
    allocated = [event.size_bytes for event in rig.driver.budget.events()]
    assert allocated[:2] == [1000, 400]


def test_models_of_a_group_share_scratch_memory(rig):
    engine = rig.load(FakePlan(scratch_bytes=100))
    for _ in range(2):
        rig.open_lane(engine, scratch_group="g")
    assert rig.held_bytes("scratch group g") == 800


def test_a_context_that_tensorrt_refuses_is_told_with_its_lane(rig):
    engine = rig.load()
    rig.open_lane(engine)
    rig.trt.refuses["context"] = "no streams left"
    with pytest.raises(ModelError, match=r"model m lane 2: no execution context: no streams left"):
        rig.open_lane(engine)


def test_a_profile_that_tensorrt_refuses_closes_what_was_opened(rig):
    engine = rig.load(FakePlan(profiles=TWO_PROFILES))
    rig.trt.refuses["profile"] = "no"
    with pytest.raises(ModelError, match="TensorRT refuses profile 1"):
        rig.open_lane(engine)
    gc.collect()
    assert [what for what, _ in rig.trt.freed] == ["context"] * 2


@pytest.mark.parametrize("limit_bytes", [4500, 5000], ids=["scratch", "tensors"])
def test_a_lane_for_which_there_is_no_room_leaves_nothing(rig, limit_bytes):
    engine = rig.load(FakePlan(weights_bytes=4096, scratch_bytes=100))
    rig.driver.budget.limit_bytes = limit_bytes
    buffers = Buffer.live.count
    with pytest.raises(OutOfDeviceMemoryError, match="model m 4"):
        rig.open_lane(engine)
    gc.collect()
    assert (rig.held_bytes(), Buffer.live.count) == (4096, buffers)
    assert [what for what, _ in rig.trt.freed] == ["context"]


def test_a_profile_for_larger_batches_than_the_lanes_does_no_harm(rig):
    engine = rig.load(FakePlan(profiles=TWO_PROFILES))
    lane = rig.open_lane(engine, max_batch=1)
    assert run(rig, lane, fill_with(1.0, 1)).error is None


# Closing


def test_contexts_go_before_their_engine_and_this_before_its_runtime_with_the_device_current(rig):
    engine = rig.load(FakePlan(profiles=TWO_PROFILES))
    lane = rig.open_lane(engine)
    with rig.driver.current():
        lane.close()
    engine.close()
    assert [what for what, _ in rig.trt.freed] == ["context", "context", "engine", "runtime"]
    assert all(is_current for _, is_current in rig.trt.freed)


def test_an_engine_may_be_closed_twice(rig):
    engine = rig.load()
    engine.close()
    engine.close()
    assert rig.trt.freed == [("engine", True), ("runtime", True)]


def test_the_configuration_with_its_cache_goes_with_the_engine(rig):
    engine = rig.load(**RTX)
    lane = rig.open_lane(engine)
    with rig.driver.current():
        lane.close()
    assert len(rig.trt.configs) == 1
    engine.close()
    assert len(rig.trt.configs) == 0


def test_an_engine_that_was_closed_says_so(rig):
    engine = rig.load()
    engine.close()
    engine.warmed()
    for ask in (engine.details, lambda: engine.open_lane(1, lambda: None)):
        with pytest.raises(ModelError, match="model m: the engine was closed"):
            ask()


# What was compiled


def test_what_lanes_compiled_is_kept_for_the_next_start(rig):
    engine = rig.load(**RTX)
    rig.open_lane(engine)
    engine.warmed()
    assert RuntimeCacheFile(rig.file).read() == b"compiled here"
    rig.open_lane(rig.load())
    assert [cache.given for cache in rig.trt.caches] == [None, b"compiled here"]


def test_an_engine_that_ran_nothing_keeps_nothing(rig, tmp_path):
    rig.load(**RTX).warmed()
    assert not (tmp_path / "cache").exists()


# Layers


def test_a_profiled_lane_tells_every_layer_of_every_batch(rig):
    heard = []
    engine = rig.load(FakePlan(layers=["conv1", "pool1"]))
    with rig.driver.current():
        lane = engine.open_profiled_lane(8, lambda: None, lambda layer, ms: heard.append((layer, ms)))
    rig.keep(lane)
    for _ in range(2):
        lane.release(run(rig, lane, fill_with(1.0, 1)).buffers)
    assert heard == [("conv1", 0.5), ("pool1", 0.5)] * 2
    assert lane.graph_counts().captured == 0


def test_other_lanes_are_not_profiled(rig):
    lane = rig.open_lane(rig.load(FakePlan(layers=["conv1"])))
    [context] = rig.trt.contexts
    run(rig, lane, fill_with(1.0, 1))
    assert context.profiler is None


# Refusals of memory


def test_a_refusal_of_memory_explains_an_engine_that_does_not_load(rig):
    rig.install(FakePlan(weights_bytes=1 << 62))
    with pytest.raises(OutOfDeviceMemoryError, match=str(1 << 62)):
        rig.load()
    assert rig.held_bytes() == 0


def test_memory_that_was_refused_long_ago_does_not_explain_what_fails_now(rig):
    engine = rig.load()
    memory = engine._parts.memory
    assert memory.allocate(1 << 62) == 0  # a tactic that TensorRT then did without
    address = memory.allocate(1000)
    assert address
    rig.trt.refuses["context"] = "Cannot find plugin: NMS"
    try:
        with pytest.raises(ModelError, match="Cannot find plugin"):
            rig.open_lane(engine)
    finally:
        memory.deallocate(address)


def test_a_device_that_refuses_otherwise_is_told_as_it_says(rig, monkeypatch):
    rig.install()

    def refuse(*_):
        raise DeviceError("the device has no memory of this kind")

    monkeypatch.setattr(rig.driver, "allocate", refuse)
    with pytest.raises(DeviceError, match="no memory of this kind"):
        rig.load()
