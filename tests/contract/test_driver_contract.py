"""What every Driver does."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgert.device.host import HostDriver
from edgert.device.memory import Budget, Buffer
from edgert.errors import ClosedError, OutOfDeviceMemoryError


@pytest.fixture(params=[HostDriver])
def open_driver(request):
    drivers = []

    def opened(limit_bytes=0):
        driver = request.param(Budget(limit_bytes))
        driver.open()
        drivers.append(driver)
        return driver

    yield opened
    for driver in drivers:
        driver.close()


class TestDriver:
    def test_allocates_what_was_asked_for_and_lets_the_host_write_it(self, open_driver):
        buffer = open_driver().allocate(1000)

        assert buffer.size_bytes == 1000
        assert buffer.array_u8.shape == (1000,)
        assert buffer.array_u8.dtype == np.uint8
        buffer.array_u8[:] = 7
        assert buffer.array_u8.sum() == 7000
        buffer.free()

    def test_memory_is_aligned_for_every_element_type(self, open_driver):
        buffer = open_driver().allocate(64)
        assert buffer.array_u8.ctypes.data % 256 == 0
        buffer.free()

    def test_buffers_do_not_overlap(self, open_driver):
        driver = open_driver()
        first, second = driver.allocate(5000), driver.allocate(5000)
        first.array_u8[:], second.array_u8[:] = 1, 2

        assert set(first.array_u8) == {1}
        assert not np.shares_memory(first.array_u8, second.array_u8)
        first.free()
        second.free()

    def test_an_empty_buffer_is_allowed(self, open_driver):
        buffer = open_driver().allocate(0)
        assert buffer.size_bytes == 0
        buffer.free()

    def test_freeing_returns_the_bytes_to_the_budget(self, open_driver):
        driver = open_driver(limit_bytes=1000)
        driver.allocate(1000).free()
        driver.allocate(1000).free()
        assert driver.budget.used_bytes == 0
        assert driver.budget.peak_bytes == 1000

    def test_freeing_twice_is_refused_and_counted_once(self, open_driver):
        driver = open_driver()
        buffer = driver.allocate(100)
        buffer.free()
        with pytest.raises(ClosedError):
            buffer.free()
        assert driver.budget.used_bytes == 0

    def test_more_than_the_budget_is_refused_without_effect(self, open_driver):
        driver = open_driver(limit_bytes=1000)
        held = driver.allocate(600)

        with pytest.raises(OutOfDeviceMemoryError, match=r"401 bytes with 600 of 1000 in use.*budget"):
            driver.allocate(401)

        assert driver.budget.used_bytes == 600
        driver.allocate(400).free()
        held.free()

    @pytest.mark.parametrize("size_bytes", [1 << 60, 1 << 70])
    def test_more_than_the_device_has_is_refused_without_effect(self, open_driver, size_bytes):
        driver = open_driver()
        live = Buffer.live.count

        with pytest.raises(OutOfDeviceMemoryError, match=str(size_bytes)):
            driver.allocate(size_bytes)

        assert driver.budget.used_bytes == 0
        assert Buffer.live.count == live

    def test_threads_may_allocate_at_once(self, open_driver):
        driver = open_driver()

        def churn():
            for size in range(1, 50):
                driver.allocate(size).free()

        threads = [threading.Thread(target=churn) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert driver.budget.used_bytes == 0

    def test_attributes_are_facts_that_can_be_printed(self, open_driver):
        facts = open_driver().attributes()
        assert facts
        assert all(isinstance(value, str | int) for value in facts.values())

    def test_has_a_name(self, open_driver):
        assert open_driver().name
