"""What every Driver does."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import numpy as np
import pytest

from edgert.device.host import HostDriver
from edgert.device.memory import Budget, Buffer, MemoryKind
from edgert.errors import ClosedError, OutOfDeviceMemoryError


@pytest.fixture(params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def open_driver(request):
    drivers = []

    def opened(limit_bytes=0):
        driver = make_driver(request.param, Budget(limit_bytes))
        driver.open()
        drivers.append(driver)
        return driver

    yield opened
    for driver in drivers:
        driver.close()


def make_driver(name, budget):
    if name == "host":
        return HostDriver(budget)
    from edgert.device.cuda import CudaDriver

    return CudaDriver(budget)


@pytest.fixture
def rig(open_driver):
    """A driver that is current, with a stream; what the test opens on it is closed at the end."""
    driver = open_driver()
    with driver.current(), ExitStack() as undo:
        yield Rig(driver, undo)


class Rig:
    def __init__(self, driver, undo):
        self.driver = driver
        self._undo = undo
        self.stream = self.opened(driver.open_stream())

    def opened(self, part):
        self._undo.callback(part.close)
        return part

    def allocate(self, size_bytes, kind):
        buffer = self.driver.allocate(size_bytes, kind, "test")
        self._undo.callback(buffer.free)
        return buffer


def reachable_kinds(driver):
    """Return the kinds of memory that host and device both reach here."""
    pageable = driver.attributes().get("PAGEABLE_MEMORY_ACCESS", 1)
    kinds = [MemoryKind.PINNED, MemoryKind.MAPPED, MemoryKind.REGISTERED, MemoryKind.MANAGED]
    return kinds + [MemoryKind.PAGEABLE] * bool(pageable)


class TestStream:
    def test_bytes_go_to_the_device_and_back(self, rig):
        for kind in reachable_kinds(rig.driver):
            there, back = rig.allocate(1000, kind), rig.allocate(1000, kind)
            device = rig.allocate(1000, MemoryKind.DEVICE)
            there.array_u8[:], back.array_u8[:] = np.arange(1000) % 251, 0
            rig.stream.copy(device.address, there.address, 1000)
            rig.stream.copy(back.address, device.address, 1000)
            rig.stream.synchronize()
            np.testing.assert_array_equal(back.array_u8, there.array_u8, err_msg=str(kind))

    def test_zeroes_bytes(self, rig):
        buffer = rig.allocate(100, MemoryKind.MAPPED)
        buffer.array_u8[:] = 9
        rig.stream.zero(buffer.address, 60)
        rig.stream.synchronize()
        assert (buffer.array_u8[:60].sum(), set(buffer.array_u8[60:])) == (0, {9})

    def test_a_mark_is_passed_once_what_is_before_it_is_done(self, rig):
        event = rig.opened(rig.driver.open_event())
        rig.stream.record(event)
        event.synchronize()
        assert event.is_done()

    def test_a_mark_that_was_never_set_is_passed(self, rig):
        assert rig.opened(rig.driver.open_event()).is_done()

    def test_another_stream_waits_for_a_mark(self, rig):
        other, mark = rig.opened(rig.driver.open_stream()), rig.opened(rig.driver.open_event())
        source, target = rig.allocate(64, MemoryKind.MAPPED), rig.allocate(64, MemoryKind.MAPPED)
        source.array_u8[:] = 5
        rig.stream.copy(target.address, source.address, 64)
        rig.stream.record(mark)
        other.wait(mark)
        other.synchronize()
        assert set(target.array_u8) == {5}

    def test_time_between_marks_is_not_negative(self, rig):
        first, second = (rig.opened(rig.driver.open_event(is_timed=True)) for _ in range(2))
        rig.stream.record(first)
        rig.stream.record(second)
        rig.stream.synchronize()
        assert second.elapsed_ms(first) >= 0

    def test_priorities_beyond_the_devices_are_its_nearest(self, rig):
        for priority in (-100, 0, 100):
            rig.opened(rig.driver.open_stream(priority)).synchronize()

    def test_may_be_used_on_another_thread_where_the_driver_is_current(self, rig):
        problems = []

        def work():
            try:
                with rig.driver.current():
                    rig.stream.synchronize()
            except Exception as error:  # noqa: BLE001 - told below
                problems.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert problems == []

    def test_device_memory_has_no_view_of_the_host(self, rig):
        if rig.driver.name == "host":
            pytest.skip("all memory of the host is the host's")
        with pytest.raises(ClosedError):
            _ = rig.allocate(10, MemoryKind.DEVICE).view_u8


class TestDriver:
    def test_counts_what_each_owner_holds(self, open_driver):
        driver = open_driver()
        first = driver.allocate(100, owner="a")
        second = driver.allocate(50, owner="b")
        first.free()
        owners = driver.budget.by_owner()
        assert (owners["a"].used_bytes, owners["a"].peak_bytes) == (0, 100)
        assert (owners["b"].used_bytes, owners["b"].count) == (50, 1)
        assert [event.size_bytes for event in driver.budget.events()] == [100, 50, -100]
        second.free()

    def test_an_owner_may_be_bounded(self, open_driver):
        driver = open_driver()
        driver.budget.limit_owner("small", 100)
        with pytest.raises(OutOfDeviceMemoryError, match=r"101 bytes with 0 of 100 in use by small"):
            driver.allocate(101, owner="small")
        driver.allocate(101, owner="other").free()

    def test_being_current_may_be_nested_and_ends_with_an_error(self, open_driver):
        driver = open_driver()
        with pytest.raises(ZeroDivisionError), driver.current(), driver.current():
            raise ZeroDivisionError
        with driver.current():
            pass

    def test_says_how_much_memory_there_is(self, open_driver):
        free, total = open_driver().memory_info()
        assert 0 < free <= total

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
