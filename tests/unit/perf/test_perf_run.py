"""One measurement from options to report, on a device that is the host and an engine that copies."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import edgert.perf.run as perf_run
from edgert.device.host import HostDriver
from edgert.device.opened import OpenDevice
from edgert.device.placement import plan_memory
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import EngineDetails, LaneOptions, ProfileRange
from edgert.perf.options import PerfOptions
from edgert.perf.run import run_perf
from edgert.perf.target import Target
from edgert.schedule.turns import SHORT_TURN_S
from tests.fakes.device_lane import INFO, open_lane
from tests.fakes.engine_context import FakeContext

QUICK = {"model": "m", "duration_s": 0.01, "warm_up_ms": 0.0, "iterations": 5}


class NamedHost(HostDriver):
    """The host, with the name that a GPU has."""

    def attributes(self):
        return {**super().attributes(), "name": "Fake GPU"}


class CopyingEngine:
    """An Engine of a device. `asked` has what its lanes were opened with."""

    info = INFO
    is_driven = True

    def __init__(self, device, contexts=FakeContext):
        self.asked = []
        self.open = 0
        self.is_warm = False
        self._device = device
        self._contexts = contexts

    def open_lane(self, max_batch, on_done, options):
        self.asked.append((max_batch, options))
        return open_lane(
            on_done,
            contexts=[self._contexts()],
            device=self._device,
            graphs=0,  # the host has none
            max_batch=max_batch,
            timed=options.is_timed,
        )

    def warmed(self):
        self.is_warm = True

    def details(self):
        return EngineDetails(profiles=({"x": ProfileRange((1, 4), (4, 4), (8, 4))},))

    def close(self):
        self.open -= 1


@pytest.fixture
def bench(monkeypatch):
    """Return a function that measures; its attribute `engines` has what was loaded."""
    monkeypatch.setattr(
        perf_run, "open_device", lambda name: OpenDevice(NamedHost(), plan_memory(HostDriver().attributes()))
    )
    engines = []

    def run(*, contexts=FakeContext, tell=lambda _: None, **options):
        def load(device, threads):
            engines.append(CopyingEngine(device, contexts))
            engines[-1].open += 1
            return engines[-1]

        target = Target(title="m/1", file=None, runtime="tensorrt", load=load, lanes=2)
        monkeypatch.setattr(perf_run, "find_target", lambda _: target)
        try:
            return run_perf(PerfOptions(**{**QUICK, **options}), tell)
        finally:
            assert all(engine.open == 0 for engine in engines)

    run.engines = engines
    return run


def test_a_device_is_measured_and_given_back(bench):
    report = bench(batch=2)
    [engine] = bench.engines
    assert engine.is_warm
    assert engine.asked == [(2, LaneOptions(is_timed=True))] * 2
    assert (report.setup.model, report.setup.device, report.setup.is_device) == ("m/1", "Fake GPU", True)
    assert (report.setup.batch, report.setup.lanes, report.setup.graphs) == (2, 2, 8)
    [figures] = report.levels
    assert figures.level.title == "concurrency 4"  # two buffer sets for each of two lanes
    assert figures.requests >= 5
    assert figures.items_per_s == pytest.approx(2 * figures.throughput_per_s, rel=1e-3)
    assert report.best == 0
    assert any("2 lanes" in warning for warning in report.warnings)
    assert report.graphs.enqueued >= figures.requests


def test_graphs_that_were_not_captured_are_warned_of(bench):
    [warning] = [warning for warning in bench().warnings if "as a graph" in warning]
    assert "cannot be captured" in warning
    assert not any("as a graph" in warning for warning in bench(graphs=False).warnings)


def test_lanes_and_graphs_as_asked_for(bench):
    report = bench(lanes=3, graphs=False, device_times=False)
    [engine] = bench.engines
    assert engine.asked == [(1, LaneOptions(graphs=0, is_timed=False))] * 3
    assert (report.setup.graphs, report.setup.device_times) == (0, False)


def test_a_sweep_tells_each_level(bench):
    told = []
    report = bench(concurrency=(1.0, 2.0, 3.0), tell=told.append)
    assert tuple(told) == report.levels
    assert [figures.level.value for figures in told] == [1, 2, 3]


def test_an_open_loop(bench):
    report = bench(rate=(2000.0,), arrivals="constant", duration_s=0.05)
    [figures] = report.levels
    assert figures.requests + figures.unserved >= 99
    assert report.setup.arrivals == "constant"


def test_inputs_come_from_the_profile_where_sides_are_open(bench, monkeypatch):
    made = []
    make = perf_run.make_batches
    monkeypatch.setattr(perf_run, "make_batches", lambda *args: made.append(args) or make(*args))
    bench()
    [(_, _, _, optimum, _)] = made
    assert optimum == {"x": (4, 4)}


def test_a_batch_that_fails_ends_the_measurement(bench):
    class Failing(FakeContext):
        def enqueue(self, tensors, stream):
            super().enqueue(tensors, stream)
            if len(self.ran) > 4:
                self.fails = ModelError("the engine broke")

    with pytest.raises(ModelError, match="the engine broke"):
        bench(contexts=Failing)


def test_an_engine_that_refuses_to_warm_up(bench):
    class Refusing(FakeContext):
        def enqueue(self, tensors, stream):
            raise ModelError("cold")

    with pytest.raises(ModelError, match="cold"):
        bench(contexts=Refusing)


def test_layers_are_refused_before_anything_runs(bench):
    with pytest.raises(ConfigError, match="--layers"):
        bench(layers=True)
    assert bench.engines[0].asked == []


def test_interrupted_before_anything_was_measured(bench, monkeypatch):
    monkeypatch.setattr(perf_run.Interrupt, "is_asked", lambda self: True)
    with pytest.raises(KeyboardInterrupt):
        bench()


def test_interrupted_it_reports_what_it_has(bench, monkeypatch):
    told = []
    monkeypatch.setattr(perf_run.Interrupt, "is_asked", lambda self: bool(told))
    report = bench(concurrency=(1.0, 2.0, 3.0), tell=told.append)
    assert report.is_interrupted
    assert len(report.levels) == 1


def test_the_interpreters_switch_interval_is_the_services_and_put_back(bench):
    seen, before = [], sys.getswitchinterval()
    bench(tell=lambda _: seen.append(sys.getswitchinterval()))
    assert seen == [pytest.approx(SHORT_TURN_S)]
    assert sys.getswitchinterval() == before


def test_the_engine_sees_the_batches(bench):
    seen = []

    class Watching(FakeContext):
        def set_shapes(self, shapes):
            seen.append(shapes)
            return super().set_shapes(shapes)

    bench(batch=4, contexts=Watching)
    assert ((4, 4),) in seen
    assert np.prod(seen[-1][0]) == 16
