"""The plain loop. What it asks of a GPU is surface-tested only: pycuda and TensorRT are stubs here."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from edgert.device.opened import open_device
from edgert.errors import ConfigError, DeviceError, ModelError, OutOfDeviceMemoryError
from edgert.execute.engine import EngineInfo, TensorSpec
from edgert.perf.bare import BareLoop, demand_bare, rotate, run_bare
from edgert.perf.options import PerfOptions, Window
from edgert.perf.target import Target, find_target
from tests.fakes import store
from tests.fakes.store import Site
from tests.unit.perf.paced import MS, make_clock

INFO = EngineInfo("tensorrt", (TensorSpec("x", "float32", (-1, 3)),), (), batches=True)
BATCHES = [{"x": np.full((2, 3), value, np.float32)} for value in (1, 2)]


class Slot:
    """Takes the clock's time for each batch."""

    def __init__(self, clock, service_ns):
        self._clock = clock
        self._service_ns = service_ns
        self._done_ns = None
        self.batches = 0

    def enqueue(self):
        assert self._done_ns is None, "It was still running."
        self._done_ns = self._clock() + self._service_ns
        self.batches += 1

    def wait(self):
        self._clock.advance(max(0, self._done_ns - self._clock()))
        self._done_ns = None


# The loop


def test_slots_run_at_once_and_in_turn():
    clock = make_clock()
    slots = [Slot(clock, 30 * MS) for _ in range(3)]
    spans = rotate(slots, Window(0, 300 * MS, 1), lambda: False, clock)
    assert [slot.batches for slot in slots] == [10, 10, 10]
    assert len(spans) == 30
    assert {(end - begun) // MS for begun, end in spans} == {30}


def test_the_warm_up_is_left_out():
    clock = make_clock()
    began = clock()
    spans = rotate([Slot(clock, 10 * MS)], Window(100 * MS, 200 * MS, 1), lambda: False, clock)
    assert min(begun for begun, _ in spans) == began + 100 * MS
    assert len(spans) == 20


def test_a_slow_engine_runs_as_often_as_asked_for():
    clock = make_clock()
    assert len(rotate([Slot(clock, 1_000 * MS)], Window(0, 10 * MS, 4), lambda: False, clock)) == 4


def test_asked_to_stop_it_waits_for_what_runs():
    clock = make_clock()
    until = clock() + 95 * MS
    slots = [Slot(clock, 10 * MS) for _ in range(2)]
    spans = rotate(slots, Window(0, 1_000 * MS, 1), lambda: clock() >= until, clock)
    assert len(spans) == sum(slot.batches for slot in slots)
    assert all(slot._done_ns is None for slot in slots)
    assert clock() < until + 15 * MS


# onnxruntime


def test_onnxruntime_in_a_loop(tmp_path):
    folder = Site(tmp_path).add("mean", store.mean_model())
    target, device = find_target(PerfOptions(model=str(folder))), open_device("host")
    batches = [{"image": np.zeros((2, 3, 8, 8), np.float32)}]
    loop = BareLoop(target, INFO, device, batches, lanes=2, threads=1)
    figures = run_bare(loop, 2, Window(0, 20 * MS, 5), lambda: False)
    assert figures.requests >= 10
    assert figures.width == 2
    assert figures.items_per_s == pytest.approx(2 * figures.throughput_per_s, rel=1e-3)
    assert run_bare(loop, 2, Window(0, 20 * MS, 5), lambda: True) is None
    device.close()


def test_a_runtime_that_computes_nothing_has_no_plain_loop(tmp_path):
    target = find_target(PerfOptions(model=str(Site(tmp_path).add_noop())))
    with pytest.raises(ConfigError, match="--bare: the runtime noop"):
        demand_bare(target)


# A GPU, as stubs


class StubMemory:
    """Memory of a device, or the base of a pinned array."""

    def __init__(self, log, name, address=0):
        self._log = log
        self._name = name
        self._address = address

    def __int__(self):
        return self._address

    def free(self):
        self._log.freed.append(self._name)


class StubCuda(ModuleType):
    """What the loop uses of pycuda.driver; `told` has what was enqueued."""

    class Error(Exception):
        pass

    class MemoryError(Error):  # noqa: A001 - its name there
        pass

    def __init__(self):
        super().__init__("pycuda.driver")
        self.told, self.freed, self.addresses = [], [], iter(range(100, 200))
        self.room = 100  # device allocations until there is no more

    def pagelocked_empty(self, shape, dtype):
        array = np.empty(shape, dtype).view(StubPinned)
        array.pinned = StubMemory(self, "pinned")
        return array

    def mem_alloc(self, size_bytes):
        self.room -= 1
        if self.room < 0:
            raise self.MemoryError("no room")
        return StubMemory(self, "device", next(self.addresses))

    def Stream(self):
        return SimpleNamespace(handle=7, synchronize=lambda: self.told.append("wait"))

    def memcpy_htod_async(self, memory, pinned, stream):
        self.told.append(("in", int(memory), float(pinned.flat[0])))

    def memcpy_dtoh_async(self, pinned, memory, stream):
        self.told.append(("out", int(memory)))


class StubPinned(np.ndarray):
    """An array whose base frees it, as pycuda's."""

    @property
    def base(self):
        return self.pinned


class StubContext:
    def __init__(self, cuda):
        self._cuda = cuda
        self.shapes, self.addresses, self.profile, self.runs = {}, {}, 0, True

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        return [self.shapes["x"][0], 5]

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def set_optimization_profile_async(self, index, stream):
        self.profile = index
        return True

    def execute_async_v3(self, stream):
        self._cuda.told.append(("run", stream, self.profile))
        return self.runs


class StubTrt:
    """What the loop uses of a TensorRT module: one engine with two profiles, of which the second fits."""

    class TensorIOMode:
        INPUT, OUTPUT = "in", "out"

    class ExecutionContextAllocationStrategy:
        STATIC, USER_MANAGED = "static", "user managed"

    num_io_tensors, num_optimization_profiles = 2, 2

    def __init__(self, cuda):
        self._cuda = cuda
        self.contexts = []
        self.plan = None

    def Runtime(self, logger):
        return self

    def deserialize_cuda_engine(self, plan):
        self.plan = plan
        return self

    def create_execution_context(self, strategy):
        assert strategy == "static"
        self.contexts.append(StubContext(self._cuda))
        return self.contexts[-1]

    def get_tensor_name(self, index):
        return "xy"[index]

    def get_tensor_mode(self, name):
        return {"x": "in", "y": "out"}[name]

    def get_tensor_dtype(self, name):
        return "FLOAT"

    def nptype(self, dtype):
        return np.float32

    def get_tensor_profile_shape(self, name, index):
        return [((1, 3), (1, 3), (1, 3)), ((2, 3), (4, 3), (8, 3))][index]


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Return the stubs, and a loop on them."""
    cuda = StubCuda()
    package = ModuleType("pycuda")
    package.driver = cuda
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    monkeypatch.delitem(sys.modules, "edgert.perf.bare_cuda", raising=False)
    module, trt = importlib.import_module("edgert.perf.bare_cuda"), StubTrt(cuda)
    monkeypatch.setattr(
        module,
        "load_bindings",
        lambda runtime: SimpleNamespace(module=trt, has_runtime_cache=False, has_runtime_config=False),
    )
    monkeypatch.setattr(
        module, "EngineLog", lambda trt, file: SimpleNamespace(logger=None, explain=ModelError)
    )
    file = tmp_path / "model.plan"
    file.write_bytes(b"plan")
    device = open_device("host")
    target = Target(title="m", file=file, runtime="tensorrt", load=None)
    yield SimpleNamespace(
        cuda=cuda, trt=trt, loop=BareLoop(target, INFO, device, BATCHES, lanes=2, threads=0)
    )
    device.close()
    sys.modules.pop("edgert.perf.bare_cuda", None)


def test_a_gpu_gets_copies_engine_and_copies(gpu):
    window = Window(0, 0, 4)
    figures = run_bare(gpu.loop, 2, window, lambda: False)
    assert gpu.trt.plan == b"plan"
    assert (figures.width, figures.kind) == (2, "execute_async_v3 in a loop")
    first, second = (context.addresses for context in gpu.trt.contexts)
    one = [("in", first["x"], 1.0), ("run", 7, 1), ("out", first["y"])]
    other = [("in", second["x"], 2.0), ("run", 7, 1), ("out", second["y"])]
    told = gpu.cuda.told
    assert told[:10] == ["wait", *one, "wait", "wait", *other, "wait"]  # for the profile, and once to be warm
    assert told[10:18] == [*one, *other, "wait", one[0]]
    assert told.count("wait") - 4 == figures.requests == sum(entry[0] == "run" for entry in told) - 2
    assert len({*first.values(), *second.values()}) == 4


def test_a_gpu_gets_its_memory_back(gpu):
    run_bare(gpu.loop, 2, Window(0, 0, 1), lambda: False)
    assert gpu.cuda.freed.count("device") == gpu.cuda.freed.count("pinned") == 4


def test_a_gpu_without_room_gets_back_what_it_gave(gpu):
    gpu.cuda.room = 3
    with pytest.raises(OutOfDeviceMemoryError, match="no room for 2 contexts"):
        run_bare(gpu.loop, 2, Window(0, 0, 1), lambda: False)
    assert gpu.cuda.freed.count("device") == 3


def test_an_engine_that_does_not_run_is_an_error(gpu, monkeypatch):
    monkeypatch.setattr(StubContext, "execute_async_v3", lambda self, stream: False)
    with pytest.raises(ModelError, match="did not run"):
        run_bare(gpu.loop, 2, Window(0, 0, 1), lambda: False)


def test_a_gpu_that_refuses_is_an_error(gpu, monkeypatch):
    def refuse(*_):
        raise StubCuda.Error("illegal address")

    monkeypatch.setattr(gpu.cuda, "memcpy_htod_async", refuse)
    with pytest.raises(DeviceError, match="illegal address"):
        run_bare(gpu.loop, 2, Window(0, 0, 1), lambda: False)


def test_the_real_bindings_have_what_the_loop_uses():
    trt = pytest.importorskip("tensorrt_rtx", reason="needs a TensorRT module: pip install tensorrt-rtx-cu13")
    used = {
        trt: "Runtime TensorIOMode nptype",
        trt.Runtime: "deserialize_cuda_engine engine_host_code_allowed",
        trt.ICudaEngine: "create_execution_context num_io_tensors get_tensor_name get_tensor_mode "
        "get_tensor_dtype num_optimization_profiles get_tensor_profile_shape",
        trt.IExecutionContext: "set_input_shape get_tensor_shape set_tensor_address execute_async_v3 "
        "set_optimization_profile_async",
    }
    for owner, names in used.items():
        assert [name for name in names.split() if not hasattr(owner, name)] == []
