"""Layers' times."""

from __future__ import annotations

import pytest

from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import EngineDetails, EngineInfo, LayerInfo
from edgert.perf.layers import RUNS, LayerProfiler, LayerTable, demand_profiler, profile_layers
from tests.fakes.device_lane import INFO, fill_with, open_lane
from tests.fakes.engine_context import FakeContext


class TellingContext(FakeContext):
    """Runs two layers, and tells their times as TensorRT's IProfiler would."""

    on_layer = None

    def enqueue(self, tensors, stream):
        super().enqueue(tensors, stream)
        self.on_layer("conv", 3.0)
        self.on_layer("relu", 1.0)


class TellingEngine:
    info = INFO
    is_driven = True

    def __init__(self):
        self.context = TellingContext()

    def open_profiled_lane(self, max_batch, on_done, on_layer):
        self.context.on_layer = on_layer
        return open_lane(on_done, contexts=[self.context], graphs=0, max_batch=max_batch)

    def details(self):
        return EngineDetails(layers=(LayerInfo("conv", "Convolution", "sm80_tactic", "FP16"),))


class SilentEngine:
    info = EngineInfo("onnxruntime", (), (), batches=False)


def test_every_layer_has_its_times_and_what_is_known_of_it():
    engine = TellingEngine()
    conv, relu = profile_layers(engine, 2, lambda: fill_with(1.0), lambda: False, "model fake")
    assert (conv.name, conv.mean_ms, conv.median_ms, conv.share) == ("conv", 3.0, 3.0, 0.75)
    assert (conv.kind, conv.precision, conv.tactic) == ("Convolution", "FP16", "sm80_tactic")
    assert (relu.name, relu.share, relu.kind) == ("relu", 0.25, "")
    assert len(engine.context.ran) >= RUNS
    assert engine.context.is_closed


def test_a_failing_run_closes_the_lane():
    engine = TellingEngine()
    engine.context.fails = ModelError("no")
    with pytest.raises(ModelError, match="no"):
        profile_layers(engine, 2, lambda: fill_with(1.0), lambda: False, "model fake")
    assert engine.context.is_closed


def test_a_runtime_that_does_not_tell():
    assert not isinstance(SilentEngine(), LayerProfiler)
    with pytest.raises(ConfigError, match="--layers: the runtime onnxruntime does not tell"):
        demand_profiler(SilentEngine())


def test_a_table_adds_up():
    table = LayerTable()
    table.add("warm", 100.0)
    table.clear()
    for times in ((1.0, 5.0, 2.0), (3.0, 5.0, 4.0)):
        for name, took_ms in zip(("a", "b", "a"), times, strict=True):  # `a` runs twice a batch
            table.add(name, took_ms)
    first, second = table.rows({})
    assert (first.name, first.mean_ms, first.median_ms, first.share) == ("a", 5.0, 2.5, 0.5)
    assert (second.name, second.mean_ms, second.median_ms, second.share) == ("b", 5.0, 5.0, 0.5)


def test_a_table_without_layers():
    assert LayerTable().rows({}) == ()
