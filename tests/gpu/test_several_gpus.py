"""Models on two GPUs: from one queue, each GPU with its own context, memory and scheduler."""

from __future__ import annotations

import ctypes
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from edgert.device.memory import MemoryKind
from edgert.device.opened import open_device
from edgert.errors import ClosedError, DeviceError, ModelError
from edgert.frames.request import SequenceStep
from edgert.inference.open_version import Opener
from edgert.inference.repository import Repository
from edgert.inference.sites import FurtherGpus
from edgert.models.store import ModelStore
from edgert.pipeline.open_model import load_engine
from edgert.pipeline.shared_engines import SharedEngines
from edgert.schedule.scheduler import Scheduler
from tests.fakes.several_gpus import run_all
from tests.fakes.waiting import answer, ask
from tests.gpu.test_served_models import add_model, rows

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(300)]

BOTH = "instance_group [{ count: 2 kind: KIND_GPU gpus: [0, 1] }] dynamic_batching { }"
SECOND = "instance_group [{ kind: KIND_GPU gpus: [1] }]"
SEQUENCES = """instance_group [{ kind: KIND_GPU gpus: [0, 1] }]
    sequence_batching { max_sequence_idle_microseconds: 60000000 }"""
_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL


def gpu_count():
    count = ctypes.c_int()
    assert ctypes.CDLL("libcuda.so.1").cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value


@pytest.fixture(autouse=True)
def _two_gpus():
    if (count := gpu_count()) < 2:
        pytest.skip(f"needs two NVIDIA GPUs: this machine has {count}")


class Machine:
    """A store that is served on all GPUs; `device` is the first."""

    def __init__(self, store):
        self.device = open_device("cuda")
        self.scheduler = Scheduler(current=self.device.driver.current)
        self.further = FurtherGpus(self._open)
        self._models = ModelStore(store)
        load = SharedEngines(load_engine).load
        opener = Opener(self.device, self.scheduler, load, self.infer, further=self.further)
        self.repository = Repository(opener.open, retire_s=10.0)

    def load(self, name):
        self.repository.load(self._models.entry(name))

    def infer(self, request):
        self.repository.get(request.model, request.version).infer(request)

    def batches(self, name):
        """Return how many batches the lanes of a model ran on each GPU."""
        ran = {0: 0, 1: 0}
        for pulse in self.repository.get(name).pulses(30.0):
            if pulse.part.startswith("lane"):
                ran[int(pulse.part.endswith("GPU 1"))] += pulse.turns
        return ran

    def held_bytes(self, gpu):
        """Return what models hold on a GPU now."""
        owners = self.device.driver.budget.by_owner().items()
        return sum(usage.used_bytes for name, usage in owners if ("on GPU 1" in name) == bool(gpu))

    def _open(self, gpu):
        return open_device("cuda", self.device.driver.budget, gpu=gpu, copies=self.device.copies)


@contextmanager
def serving(store):
    machine = Machine(store)
    machine.scheduler.start()
    try:
        yield machine
    finally:
        machine.repository.close()
        machine.scheduler.stop()
        machine.further.close()
        machine.device.close()
        budget = machine.device.driver.budget
        assert budget.used_bytes == 0, budget.holders()


def test_memory_is_on_the_gpu_that_was_asked_for():
    for gpu in (0, 1):
        device = open_device("cuda", gpu=gpu)
        buffer = device.driver.allocate(4096, MemoryKind.DEVICE)
        ordinal = ctypes.c_int(-1)
        with device.driver.current():
            status = ctypes.CDLL("libcuda.so.1").cuPointerGetAttribute(
                ctypes.byref(ordinal), _ORDINAL, ctypes.c_uint64(buffer.address)
            )
        assert (status, ordinal.value) == (0, gpu)
        buffer.free()
        device.close()


def test_a_gpu_that_is_not_there_is_told_with_how_many_there_are():
    with pytest.raises(DeviceError, match=rf"GPU 99 is not there; this machine has {gpu_count()} GPUs"):
        open_device("cuda", gpu=99)


def test_a_model_for_a_gpu_that_is_not_there_is_refused(tmp_path):
    add_model(tmp_path, "double", 2.0, "instance_group [{ kind: KIND_GPU gpus: [0, 99] }]")
    told = r"instance_group\[0\].gpus: found 99: GPU 99 is not there"
    with serving(tmp_path) as machine, pytest.raises(ModelError, match=told):
        machine.load("double")


def test_requests_of_all_sizes_are_answered_by_the_second_gpu_alone(tmp_path):
    add_model(tmp_path, "double", 2.0, SECOND)
    with serving(tmp_path) as machine:
        machine.load("double")
        for count in (1, 2, 3, 5, 8):
            values = rows(*range(count))
            np.testing.assert_array_equal(answer(machine.infer, "double", {"X": values})["Y"], values * 2)
        assert machine.batches("double") == {0: 0, 1: 5}
        assert (machine.held_bytes(0), machine.held_bytes(1) > 0) == (0, True)


def test_many_senders_are_answered_by_both_gpus(tmp_path):
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        add_model(tmp_path, name, factor, BOTH)
    with serving(tmp_path) as machine:
        for name in ("double", "triple"):
            machine.load(name)

        def send(number):
            name, factor = (("double", 2.0), ("triple", 3.0))[number % 2]
            for step in range(200):
                values = rows(number * 1000 + step)
                np.testing.assert_array_equal(
                    answer(machine.infer, name, {"X": values})["Y"], values * factor
                )

        run_all(send, range(16), timeout_s=60.0)
        for name in ("double", "triple"):
            assert all(machine.batches(name).values())
            assert machine.repository.get(name).statistics().inference_stats.success.count == 1600
        assert min(machine.held_bytes(gpu) for gpu in (0, 1)) > 0


def test_many_requests_at_once_keep_both_gpus_busy(tmp_path):
    add_model(tmp_path, "double", 2.0, "instance_group [{ count: 2 kind: KIND_GPU gpus: [0, 1] }]")
    with serving(tmp_path) as machine:
        machine.load("double")
        asked = [ask(machine.infer, "double", {"X": rows(number)}) for number in range(2000)]
        for number, one in enumerate(asked):
            np.testing.assert_array_equal(one.final().outputs["Y"], rows(number) * 2)
        ran = machine.batches("double")
        assert sum(ran.values()) == 2000
        assert min(ran.values()) > 200


def test_no_request_is_lost_while_a_model_on_both_gpus_is_loaded_again(tmp_path):
    add_model(tmp_path, "double", 2.0, BOTH)
    add_model(tmp_path, "triple", 3.0, SECOND)
    is_over = threading.Event()
    with serving(tmp_path) as machine:
        for name in ("double", "triple"):
            machine.load(name)

        def send(name, factor):
            while not is_over.is_set():
                try:
                    found = answer(machine.infer, name, {"X": rows(3)})["Y"]
                except ClosedError:
                    continue  # a core asks the version that came in its place
                np.testing.assert_array_equal(found, rows(3) * factor)

        def work(number):
            if number:
                send(*(("double", 2.0), ("triple", 3.0))[number % 2])
                return
            try:
                for _ in range(5):
                    machine.load("double")
            finally:
                is_over.set()

        run_all(work, range(5), timeout_s=120.0)


def test_a_sequence_stays_on_its_gpu(tmp_path):
    add_model(tmp_path, "double", 2.0, SEQUENCES)
    with serving(tmp_path) as machine:
        machine.load("double")
        for number in (1, 2):
            step = SequenceStep(number, is_start=True, is_end=False)
            answer(machine.infer, "double", {"X": rows(number)}, sequence=step)
        before = machine.batches("double")
        for _ in range(10):
            step = SequenceStep(2, is_start=False, is_end=False)
            found = answer(machine.infer, "double", {"X": rows(2)}, sequence=step)["Y"]
            np.testing.assert_array_equal(found, rows(2) * 2)
        after = machine.batches("double")
        assert sorted(after[gpu] - before[gpu] for gpu in (0, 1)) == [0, 10]
