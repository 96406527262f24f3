"""What TensorRT holds, counted by owner and bounded."""

from __future__ import annotations

import logging

import pytest

from edgert.device.memory import Budget, MemoryKind
from edgert.errors import DeviceError, OutOfDeviceMemoryError
from edgert.execute.tensorrt_allocator import OwnedMemory, make_allocator
from edgert.execute.tensorrt_bindings import FLAGS_FIRST, STREAM_FIRST
from tests.fakes.gpu import FakeGpu
from tests.fakes.noted_device import NotedDriver
from tests.fakes.tensorrt_runtime import FakeTensorRT


@pytest.fixture
def driver():
    driver = NotedDriver(Budget(10_000))
    yield driver
    assert driver.budget.used_bytes == 0


@pytest.fixture
def memory(driver):
    return OwnedMemory(driver, "model m")


def test_memory_is_the_devices_and_counted_for_its_owner(driver, memory):
    address = memory.allocate(4000)
    assert (memory.held_bytes, driver.budget.by_owner()["model m"].used_bytes) == (4000, 4000)
    assert driver.budget.events()[0].kind == MemoryKind.DEVICE.value
    assert memory.deallocate(address)
    assert memory.held_bytes == 0


def test_each_request_gets_memory_of_its_own(memory):
    addresses = [memory.allocate(1000) for _ in range(3)]
    assert len(set(addresses)) == 3
    memory.deallocate(addresses.pop(1))
    assert memory.held_bytes == 2000
    for address in addresses:
        memory.deallocate(address)


def test_what_does_not_fit_is_answered_with_no_address_and_the_reason_kept(memory):
    held = memory.allocate(8000)
    assert memory.allocate(4000) == 0
    assert isinstance(memory.refusal, OutOfDeviceMemoryError)
    assert "Asked for 4000 bytes with 8000 of 10000 in use (model m 8000)" in str(memory.refusal)
    assert memory.held_bytes == 8000
    memory.deallocate(held)


def test_whatever_the_device_refuses_is_answered_and_never_raised():
    refusal = DeviceError("no such memory")
    memory = OwnedMemory(FakeGpu({}, failures={MemoryKind.DEVICE: refusal}), "model m")
    assert (memory.allocate(100), memory.refusal) == (0, refusal)


def test_nothing_asked_for_is_nothing_given_and_no_refusal(driver, memory):
    assert (memory.allocate(0), memory.refusal) == (0, None)
    assert memory.deallocate(0)
    assert driver.budget.events() == []


def test_memory_that_it_did_not_give_is_refused_and_told(memory, caplog):
    with caplog.at_level(logging.ERROR):
        assert not memory.deallocate(0x7000)
    assert [record.getMessage() for record in caplog.records] == [
        "TensorRT gives back memory at 0x7000 that it did not get from edgert"
    ]


def test_memory_that_is_given_back_twice_is_refused_and_freed_once(driver, memory):
    address = memory.allocate(1000)
    assert (memory.deallocate(address), memory.deallocate(address)) == (True, False)
    assert driver.budget.by_owner()["model m"].count == 0


@pytest.mark.parametrize(
    ("runtime", "version", "order"),
    [
        ("tensorrt", (10, 3, 0), STREAM_FIRST),
        ("tensorrt", (11, 2, 0), FLAGS_FIRST),
        ("tensorrt_rtx", (1, 6, 0), FLAGS_FIRST),
    ],
)
def test_in_whichever_order_a_release_calls_the_size_is_the_size(memory, runtime, version, order):
    trt = FakeTensorRT(runtime=runtime, version=version)
    assert trt.bindings().allocate_order == order
    trt_runtime = trt.Runtime(None)
    trt_runtime.gpu_allocator = allocator = make_allocator(trt.bindings(), memory)
    address = trt_runtime.allocate(3000)
    assert memory.held_bytes == 3000
    assert allocator.deallocate_async(address, 0x5000)
    assert memory.held_bytes == 0


def test_the_allocator_is_one_of_tensorrt_and_never_grows_memory_in_place(memory):
    trt = FakeTensorRT()
    allocator = make_allocator(trt.bindings(), memory)
    assert isinstance(allocator, trt.IGpuAsyncAllocator)
    address = allocator.allocate_async(1000, 256, 0, 0)
    assert allocator.reallocate(address, 256, 2000) == 0  # so TensorRT asks for new memory itself
    assert memory.held_bytes == 1000
    assert allocator.deallocate_async(address, 0)


@pytest.mark.parametrize("address", [None, 0])
def test_nothing_is_given_back_without_complaint(memory, address):
    assert make_allocator(FakeTensorRT().bindings(), memory).deallocate_async(address, 0)
