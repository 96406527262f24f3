"""Taking a device, with the plan for its memory."""

from __future__ import annotations

import sys

import pytest

from edgert.device.board import CudaDriverProbe
from edgert.device.memory import Budget, MemoryKind
from edgert.device.opened import open_device
from edgert.errors import ConfigError, DeviceError, OutOfDeviceMemoryError
from tests.fakes.gpu import FakeGpu, put_gpu
from tests.fakes.noted_device import NotedDriver, open_noted

DISCRETE = {"INTEGRATED": 0}
INTEGRATED = {"INTEGRATED": 1, "CAN_MAP_HOST_MEMORY": 1}


class NoGpu(FakeGpu):
    """A GPU that cannot be taken."""

    def open(self):
        raise DeviceError("The driver finds no device.")


def test_the_host_places_everything_in_its_own_memory():
    device = open_device("host")
    assert device.driver.name == "host"
    assert (device.memory.slots, device.memory.is_staged) == (MemoryKind.PAGEABLE, False)
    device.close()


def test_a_gpu_with_memory_of_its_own_gets_copies_of_pinned_slots(monkeypatch):
    gpu = put_gpu(monkeypatch, FakeGpu(DISCRETE))
    device = open_device("cuda")
    assert (device.driver, gpu.opened) == (gpu, 1)
    assert (device.memory.slots, device.memory.is_staged) == (MemoryKind.PINNED, True)
    device.close()
    assert gpu.opened == 0


def test_memory_is_placed_as_forced(monkeypatch):
    put_gpu(monkeypatch, FakeGpu(INTEGRATED))
    device = open_device("cuda", forced_memory="staged")
    assert device.memory.is_staged
    device.close()


def test_a_device_that_cannot_place_memory_as_forced_is_given_back(monkeypatch):
    gpu = put_gpu(monkeypatch, FakeGpu(DISCRETE))
    with pytest.raises(ConfigError, match='memory = "managed": MANAGED_MEMORY is not stated'):
        open_device("cuda", forced_memory="managed")
    assert gpu.opened == 0


def test_a_device_that_was_not_taken_is_not_given_back(monkeypatch):
    gpu = put_gpu(monkeypatch, NoGpu(DISCRETE))
    with pytest.raises(DeviceError, match="finds no device"):
        open_device("cuda")
    assert gpu.opened == 0


def test_a_missing_library_is_told_with_what_installs_it(monkeypatch):
    put_gpu(monkeypatch, None)
    with pytest.raises(
        ConfigError, match=r"needs pycuda: .* Run, where CUDA's toolkit is: pip install pycuda"
    ):
        open_device("cuda")


def test_a_machine_without_a_driver_is_told_so_and_not_to_install_pycuda(monkeypatch):
    put_gpu(monkeypatch, None)
    monkeypatch.setattr(
        "edgert.device.opened.probe_cuda_driver", lambda: CudaDriverProbe(None, "none (no libcuda)")
    )
    with pytest.raises(DeviceError, match=r"here it is none \(no libcuda\)\. Run the model with onnxruntime"):
        open_device("cuda")


def test_each_load_of_a_model_is_an_owner_of_its_own_while_the_last_holds_memory():
    device = open_device("host")
    first = device.driver.allocate(10, owner=device.owner_of("model m/1"))
    assert device.owner_of("model m/1") == "model m/1 (load 2)"
    first.free()
    assert device.owner_of("model m/1") == "model m/1"


def test_another_gpu_is_taken_by_its_number_and_its_owners_say_it(monkeypatch):
    first, second = FakeGpu(DISCRETE), FakeGpu(DISCRETE)
    put_gpu(monkeypatch, first, second)
    device = open_device("cuda", gpu=1)
    assert (device.driver, first.opened, second.opened) == (second, 0, 1)
    assert device.owner_of("model m/1") == "model m/1 on GPU 1"
    device.close()


def test_gpus_may_be_counted_together(monkeypatch):
    put_gpu(monkeypatch, FakeGpu(DISCRETE), FakeGpu(DISCRETE))
    first = open_device("cuda")
    second = open_device("cuda", gpu=1, copies=first.copies)
    second.copies.add("host_to_device", 100)
    assert first.copies.bytes["host_to_device"] == 100
    for device in (first, second):
        device.close()


def test_the_host_needs_no_library_of_a_gpu(monkeypatch):
    put_gpu(monkeypatch, None)
    open_device("host").close()
    assert sys.modules["edgert.device.cuda"] is None


def test_slots_are_counted_for_their_source_and_against_the_budget():
    budget = Budget(10_000)
    allocate = open_noted(NotedDriver(budget, **DISCRETE)).slots_of("source door")
    slot = allocate(4000)
    assert slot.kind is MemoryKind.PINNED
    assert budget.by_owner()["source door"].used_bytes == 4000
    with pytest.raises(OutOfDeviceMemoryError, match="source door 4000"):
        allocate(7000)
    slot.free()


def test_each_device_counts_its_own_copies():
    first, second = open_device("host"), open_device("host")
    first.copies.add("host_to_device", 100)
    assert (first.copies.bytes.total(), second.copies.bytes.total()) == (100, 0)


def test_lanes_of_one_device_share_the_scratch_of_a_group():
    device, other = open_device("host"), open_device("host")
    assert device.scratch.of("g", "model a") is device.scratch.of("g", "model b")
    assert device.scratch.of("g", "model a") is not other.scratch.of("g", "model a")
