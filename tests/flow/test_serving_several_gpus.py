"""A service whose served models name two GPUs: opened when they are asked for, watched, counted, closed."""

from __future__ import annotations

import queue
import sys
from contextlib import ExitStack
from types import ModuleType

import numpy as np
import pytest

from edgert.device.board import CudaDriverProbe
from edgert.errors import DeviceLostError
from edgert.pipeline import assembly
from edgert.service.line import Line
from tests.fakes.device_lane import INFO
from tests.fakes.noted_device import NotedDriver
from tests.fakes.several_gpus import CONFIG, WIDTH, Engine
from tests.fakes.store import Site
from tests.fakes.waiting import answer

pytest.importorskip("httptools", reason="needs httptools: pip install 'edgert[serve]'")

TIMEOUT_S = 10.0
PIPELINE = """
[http]
port = 0
[service]
drain_s = 1.0
memory_mb = 100
[serve]
"""


class Driver(NotedDriver):
    """A GPU that counts how often it is open."""

    def __init__(self, budget, number):
        super().__init__(budget, name=f"Fake {number}", compute_capability="8.7")
        self.opened = 0

    def open(self):
        self.opened += 1

    def close(self):
        self.opened -= 1


class Machine:
    """What is opened here, by the GPU's number."""

    def __init__(self):
        self.drivers = {}
        self.engines = {}

    def driver(self, budget=None, index=0):
        self.drivers[index] = Driver(budget, index)
        return self.drivers[index]

    def load(self, plan, version, device, threads):
        self.engines[device.gpu] = Engine(device, INFO)
        return self.engines[device.gpu]


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    module = ModuleType("edgert.device.cuda")
    module.CudaDriver = machine.driver
    monkeypatch.setitem(sys.modules, "edgert.device.cuda", module)
    monkeypatch.setattr("edgert.device.opened.probe_cuda_driver", lambda: CudaDriverProbe((13, 0)))
    monkeypatch.setattr(assembly, "load_engine", machine.load)
    return machine


@pytest.fixture
def line(machine, tmp_path):
    site = Site(tmp_path)
    groups = "instance_group [{ count: 1 kind: KIND_GPU gpus: [0, 1] }]"
    folder = site.add(
        "m", config=CONFIG.format(width=WIDTH, rest=groups), settings='[engine]\nruntime = "tensorrt"\n'
    )
    (folder / "1" / "model.plan").write_bytes(b"plan")
    events = queue.Queue()
    line = Line(site.load(PIPELINE), events.put, lambda: None)
    line.events = events
    with ExitStack() as undo:
        undo.callback(line.close)
        undo.callback(line.drain)
        line.open()
        yield line


@pytest.fixture
def core(line):
    """Return what answers requests, all models loaded."""
    line.load_models()
    line.begin()
    return line._serving.core


def test_a_further_gpu_is_opened_with_the_first_model_that_names_it_and_closed_last(machine, line):
    assert list(machine.drivers) == [0]
    line.load_models()
    line.begin()
    core = line._serving.core
    assert [driver.opened for driver in machine.drivers.values()] == [1, 1]
    for number in range(20):
        wanted = np.full((2, WIDTH), number, np.float32)
        np.testing.assert_array_equal(answer(core.infer, "m", {"x": wanted})["y"], wanted)
    line.drain()
    line.close()
    assert [driver.opened for driver in machine.drivers.values()] == [0, 0]
    assert all(engine.is_closed for engine in machine.engines.values())


def test_both_gpus_are_counted_in_the_reports_of_the_line(machine, line, core):
    owners = line.allocations()["owners"]
    assert "model m/1 on GPU 1" in owners
    assert "model m/1" in owners
    assert machine.drivers[1].budget is machine.drivers[0].budget
    batches = sum(len(context.ran) for own in machine.engines.values() for context in own.contexts)
    assert line.report()["device_copies"]["host_to_device"]["copies"] == batches


def test_the_watchdog_sees_lanes_and_schedulers_of_both(line, core):
    parts = [pulse.part for pulse in line.pulses()]
    for part in ("the scheduler", "the scheduler of GPU 1", "lane 1 of model m/1 on GPU 1"):
        assert part in parts


def test_a_gpu_that_is_lost_ends_the_line_and_goes_with_the_process(machine, line, core):
    for engine in machine.engines.values():
        engine.contexts[0].fails = DeviceLostError("gone")
    with pytest.raises(DeviceLostError):
        answer(core.infer, "m", {"x": np.zeros((1, WIDTH), np.float32)})
    assert line.events.get(timeout=TIMEOUT_S) == "lost"
    line.drain()
    line.close()
    assert [driver.opened for driver in machine.drivers.values()] == [1, 1]
