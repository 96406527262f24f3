"""How batches get into a lane."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.device.memory import Budget
from edgert.device.opened import open_device
from edgert.errors import OutOfDeviceMemoryError
from edgert.execute.engine import DeviceTensor
from edgert.perf.drive import Bell, Drive, Rig
from edgert.perf.fills import open_fills
from edgert.perf.load import ClosedLoad
from edgert.perf.options import Window
from tests.fakes.device_lane import open_lane
from tests.fakes.lane import FakeBufferSet

BATCHES = [{"x": np.full((2, 4), value, np.float32)} for value in (1, 2, 3)]


@pytest.fixture
def device():
    opened = open_device("host")
    yield opened
    opened.close()
    assert opened.driver.budget.used_bytes == 0, opened.driver.budget.holders()


def test_a_lane_of_the_host_is_written_in_turn(device):
    fills, buffers = open_fills(BATCHES, device, is_driven=False), FakeBufferSet(0)
    seen = []
    for _ in range(4):
        fills.next()(buffers)
        seen.append(buffers.outputs()["y"].mean())
    assert seen == [1, 2, 3, 1]
    fills.close()


def test_a_lane_of_a_device_copies_from_memory_that_is_freed_at_the_end(device):
    fills = open_fills(BATCHES, device, is_driven=True)
    lane = open_lane(device=device)
    seen = []
    for _ in range(4):
        buffers = lane.acquire()
        lane.submit(buffers, fills.next(), None)
        [completed] = lane.poll()
        assert completed.error is None
        seen.append(buffers.outputs()["y"][:2].mean())
        lane.release(buffers)
    assert seen == [1, 2, 3, 1]
    assert device.copies.bytes["host_to_device"] == 4 * 32
    lane.close()
    fills.close()


def test_batches_that_do_not_fit_leave_nothing_behind():
    device = open_device("host", Budget(70))
    with pytest.raises(OutOfDeviceMemoryError):
        open_fills(BATCHES, device, is_driven=True)
    assert device.driver.budget.used_bytes == 0
    device.close()


def test_a_scalar_is_copied_too(device):
    class OneNumber:
        """A buffer set of a device whose only input has no sides."""

        def __init__(self):
            self.stream = device.driver.open_stream()
            self.memory = device.driver.allocate(4)

        def inputs(self, shapes):
            return {"x": DeviceTensor(self.memory.address, shapes["x"], "float32")}

    fills, buffers = open_fills([{"x": np.array(7, np.float32)}], device, is_driven=True), OneNumber()
    fills.next()(buffers)
    assert buffers.memory.view_u8.view(np.float32) == [7]
    buffers.stream.close()
    buffers.memory.free()
    fills.close()


def test_driving_a_timed_lane_of_a_device_gives_its_times(device):
    """Everything real but the engine, which copies its input, and the device, which is the host."""
    fills, bell = open_fills(BATCHES, device, is_driven=True), Bell()
    lane = open_lane(bell.ring, device=device, timed=True)
    driven = Drive(Rig([lane], fills.next, bell, is_driven=True), ClosedLoad(2)).run(Window(0, 1_000_000, 20))
    assert len(driven.samples) >= 20
    for sample in driven.samples:
        assert min(sample.fill_ms, sample.compute_ms, sample.fetch_ms, sample.enqueue_ms) >= 0
        assert sample.arrived_ns <= sample.started_ns < sample.finished_ns
        assert sample.latency_ms <= sample.response_ms
    lane.close()
    fills.close()
