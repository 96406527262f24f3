"""Several devices that say they are GPUs, with fake engines on real lanes, and models served on them."""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager
from functools import partial

from edgert.device.opened import OpenDevice
from edgert.device.placement import plan_memory
from edgert.errors import DeviceError
from edgert.execute.engine import DEFAULT_LANE, EngineDetails
from edgert.inference.open_version import Opener
from edgert.inference.repository import Repository
from edgert.inference.sites import FurtherGpus
from edgert.models.store import ModelStore
from edgert.schedule.rate_limiter import RateLimiter
from edgert.schedule.scheduler import Scheduler
from tests.fakes.device_lane import INFO, open_lane
from tests.fakes.engine_context import FakeContext
from tests.fakes.noted_device import NotedDriver

WIDTH = 4
CONFIG = """platform: "tensorrt_plan" max_batch_size: 8
input [{{ name: "x" data_type: TYPE_FP32 dims: [{width}] }}]
output [{{ name: "y" data_type: TYPE_FP32 dims: [{width}] }}]
{rest}
"""


class Context(FakeContext):
    """Notes the thread of every run; `on_run` is called in each, and may hold it."""

    def __init__(self, driver):
        super().__init__()
        self.threads = []
        self.on_run = lambda: None
        self._driver = driver

    def enqueue(self, tensors, stream):
        self._driver.demand_current()
        self.threads.append(threading.current_thread())
        self.on_run()
        super().enqueue(tensors, stream)


class Engine:
    """An Engine whose lanes are those of a device; `contexts` has one for each."""

    is_driven = True

    def __init__(self, device, info):
        self.device = device
        self.info = info
        self.contexts = []
        self.is_closed = False

    def open_lane(self, max_batch, on_done, options=DEFAULT_LANE):
        self.contexts.append(Context(self.device.driver))
        return open_lane(
            on_done, contexts=self.contexts[-1:], device=self.device, graphs=0, max_batch=max_batch
        )

    def warmed(self):
        """Do nothing: nothing was compiled."""

    def details(self):
        return EngineDetails()

    def close(self):
        assert all(context.is_closed for context in self.contexts)
        self.is_closed = True


class SeveralGpus:
    """A machine with `count` GPUs that serves a store. `engines` has what was loaded, by model and GPU."""

    def __init__(self, store, count):
        self.engines = {}
        self.failures = {}  # raised by the next load for a GPU
        self.infos = {}  # of engines that are not INFO, by GPU
        self.lost = queue.Queue()
        self._count = count
        self._store = ModelStore(store)
        self._devices = {0: self._device(0)}
        self.scheduler = Scheduler(current=self.driver(0).current)
        self.further = FurtherGpus(self._open)
        self.limiter = RateLimiter(self.scheduler.wake)
        opener = Opener(
            self._devices[0],
            self.scheduler,
            self._load,
            self.infer,
            limiter=self.limiter,
            on_lost=self.lost.put,
            further=self.further,
            find=lambda model, version: self.repository.get(model, version),
        )
        self.repository = Repository(opener.open, retire_s=2.0)

    def add(self, name, rest="", settings=""):
        """Write a model whose y is its x."""
        folder = self._store.folder / name
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "1" / "model.plan").write_bytes(b"plan")
        (folder / "config.pbtxt").write_text(CONFIG.format(width=WIDTH, rest=rest))
        (folder / "edgert.toml").write_text(f'[engine]\nruntime = "tensorrt"\n{settings}')

    def add_ensemble(self, name, *steps):
        """Write an ensemble whose steps run one behind the other."""
        places = ["x", *(f"t{number}" for number in range(1, len(steps))), "y"]
        (self._store.folder / name / "1").mkdir(parents=True)
        tensor = f"data_type: TYPE_FP32 dims: [{WIDTH}]"
        told = " ".join(
            f"""step {{ model_name: "{step}" model_version: -1
            input_map {{ key: "x" value: "{places[index]}" }}
            output_map {{ key: "y" value: "{places[index + 1]}" }} }}"""
            for index, step in enumerate(steps)
        )
        (self._store.folder / name / "config.pbtxt").write_text(
            f"""platform: "ensemble" max_batch_size: 8 input {{ name: "x" {tensor} }}
            output {{ name: "y" {tensor} }} ensemble_scheduling {{ {told} }}"""
        )

    def load(self, name):
        self.repository.load(self._store.entry(name))

    def infer(self, request):
        self.repository.get(request.model, request.version).infer(request)

    def served(self, name):
        return self.repository.get(name)

    def contexts(self, name, gpu):
        """Return the contexts of the newest engine, one for each lane."""
        return self.engines[name, gpu][-1].contexts

    def runs(self, name, gpu):
        """Return how many batches each lane ran, those before requests included."""
        return [len(context.ran) for context in self.contexts(name, gpu)]

    def driver(self, gpu):
        return self._devices[gpu].driver

    def close(self):
        self.repository.close()
        self.scheduler.stop()
        self.further.close()
        assert all(engine.is_closed for loads in self.engines.values() for engine in loads)
        assert [device.driver.budget.used_bytes for device in self._devices.values()] == [0] * len(
            self._devices
        )

    def _open(self, gpu):
        if gpu >= self._count:
            raise DeviceError(f"GPU {gpu} is not there; this machine has {self._count} GPUs")
        self._devices[gpu] = self._device(gpu)
        return self._devices[gpu]

    def _device(self, gpu):
        driver = NotedDriver(name=f"Fake {gpu}", compute_capability="8.7")
        return OpenDevice(driver, plan_memory(driver.attributes()), gpu)

    def _load(self, plan, version, device, threads):
        if device.gpu in self.failures:
            raise self.failures.pop(device.gpu)
        engine = Engine(device, self.infos.get(device.gpu, INFO))
        self.engines.setdefault((plan.entry.name, device.gpu), []).append(engine)
        return engine


@contextmanager
def serving_gpus(store, count=2):
    """Yield a machine with GPUs that serves, and close everything after."""
    gpus = SeveralGpus(store, count)
    gpus.scheduler.start()
    try:
        yield gpus
    finally:
        gpus.close()


def run_all(work, numbers, timeout_s=20.0):
    """Call `work` with each number on a thread of its own, and raise what any of them raised."""
    faults = []

    def guarded(number):
        try:
            work(number)
        except BaseException as fault:  # noqa: BLE001 - raised below
            faults.append(fault)

    threads = [threading.Thread(target=partial(guarded, number)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout_s)
    assert not any(thread.is_alive() for thread in threads)
    for fault in faults:
        raise fault
