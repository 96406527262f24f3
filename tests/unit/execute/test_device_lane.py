from __future__ import annotations

import logging

import numpy as np
import pytest

from edgert.device.host import HostEvent, HostStream
from edgert.device.opened import open_device
from edgert.errors import DeviceError, DeviceLostError, FrameError, ModelError, OutOfDeviceMemoryError
from tests.fakes.device_lane import fill_with, open_lane
from tests.fakes.engine_context import FakeContext


class HeldEvents:
    """Marks that are passed when the test says so, as on a device that works."""

    def __init__(self, monkeypatch):
        self.passed = False
        self.lost = False
        monkeypatch.setattr(HostEvent, "is_done", lambda event: self._is_done())

    def _is_done(self):
        if self.lost:
            raise DeviceLostError("gone")
        return self.passed


class Graphs:
    """Streams that can capture: a graph remembers that it was launched."""

    def __init__(self, monkeypatch):
        self.launched = []
        self.open = 0
        monkeypatch.setattr(HostStream, "begin_capture", lambda stream: None)
        monkeypatch.setattr(HostStream, "end_capture", lambda stream: self._make())
        monkeypatch.setattr(HostStream, "launch", lambda stream, graph: self.launched.append(graph))

    def _make(self):
        self.open += 1
        return self

    def close(self):
        self.open -= 1


@pytest.fixture
def opened():
    """Return a function that opens a lane; all are closed at the end."""
    lanes = []

    def open_one(**options):
        lanes.append(open_lane(**options))
        return lanes[-1]

    yield open_one
    for lane in lanes:
        lane.close()


def run(lane, fill, tag=None):
    lane.submit(lane.acquire(), fill, tag)
    [completed] = lane.poll()
    return completed


def test_outputs_are_those_of_the_batch(opened):
    completed = run(opened(), fill_with(3.0))
    np.testing.assert_array_equal(completed.buffers.outputs()["y"][:2], 3.0)


@pytest.mark.parametrize(("count", "runs"), [(1, 1), (2, 2), (3, 4), (5, 6), (6, 6)])
def test_a_batch_runs_at_the_next_of_few_sizes(opened, count, runs):
    context = FakeContext(maximum=6)
    run(opened(contexts=[context], max_batch=6), fill_with(1.0, count))
    assert context.ran == [((runs, 4),)]


def test_the_smallest_size_that_a_profile_covers_is_taken(opened):
    only_four, only_eight = FakeContext(minimum=4, maximum=4), FakeContext(minimum=8, maximum=8)
    lane = opened(contexts=[only_four, only_eight])
    lane.release(run(lane, fill_with(1.0, 1)).buffers)
    lane.release(run(lane, fill_with(1.0, 5)).buffers)
    assert (only_four.ran, only_eight.ran) == ([((4, 4),)], [((8, 4),)])


def test_a_shape_that_no_profile_covers_is_an_error_of_its_batch_only(opened):
    lane = opened()
    failed = run(lane, lambda buffers: buffers.inputs({"x": (2, 5)}))
    assert "no profile" in str(failed.error)
    lane.release(failed.buffers)
    assert run(lane, fill_with(1.0)).error is None


def test_two_batches_may_be_in_flight(opened, monkeypatch):
    held = HeldEvents(monkeypatch)
    lane = opened()
    for tag in ("first", "second"):
        lane.submit(lane.acquire(), fill_with(1.0), tag)
    assert (lane.acquire(), lane.poll()) == (None, [])
    held.passed = True
    assert [completed.tag for completed in lane.poll()] == ["first", "second"]


def test_slots_are_held_until_the_mark_behind_their_last_reader_is_passed(opened, monkeypatch):
    held = HeldEvents(monkeypatch)
    lane, read = opened(), []
    lane.submit(lane.acquire(), fill_with(1.0), None, lambda: read.append(1))
    lane.poll()
    assert read == []
    assert lane.look_ns(0) is not None
    held.passed = True
    lane.poll()
    assert read == [1]


def test_a_lost_device_fails_everything_in_flight(opened, monkeypatch):
    held = HeldEvents(monkeypatch)
    lane, read = opened(), []
    for _ in range(2):
        lane.submit(lane.acquire(), fill_with(1.0), None, lambda: read.append(1))
    held.lost = True
    assert [type(completed.error) for completed in lane.poll()] == [DeviceLostError] * 2
    assert read == [1, 1]


def test_a_batch_that_never_ends_is_a_lost_device_and_is_left_behind(opened, monkeypatch):
    monkeypatch.setattr("edgert.execute.pace.STUCK_NS", 0)
    monkeypatch.setattr("edgert.execute.pace.STUCK_RUNS", 0)
    held = HeldEvents(monkeypatch)
    lane, read = opened(), []
    for _ in range(2):
        lane.submit(lane.acquire(), fill_with(1.0), None, lambda: read.append(1))
    assert [type(completed.error) for completed in lane.poll()] == [DeviceLostError] * 2
    assert read == [1, 1]
    monkeypatch.setattr(HostStream, "synchronize", lambda stream: pytest.fail("it would wait for ever"))
    lane.close()
    held.passed = True
    lane._is_closed = lane._is_stuck = False
    monkeypatch.undo()
    lane.live.opened()  # as it was not left behind here


def test_a_runtime_that_compiles_for_long_does_not_make_its_batch_stuck(opened, monkeypatch):
    class Compiling(FakeContext):
        def enqueue(self, tensors, stream):
            clock[0] += 100_000_000_000
            super().enqueue(tensors, stream)

    clock = [1]
    monkeypatch.setattr("edgert.execute.device_lane.time.monotonic_ns", lambda: clock[0])
    held = HeldEvents(monkeypatch)
    lane = opened(contexts=[Compiling()])
    lane.submit(lane.acquire(), fill_with(1.0), "tag")
    assert lane.poll() == []
    held.passed = True
    assert [completed.error for completed in lane.poll()] == [None]


def test_an_idle_lane_moves_to_larger_scratch_memory_too(opened):
    device = open_device("host")
    idle = opened(contexts=[FakeContext(scratch=1000)], device=device, group="g")
    opened(contexts=[FakeContext(scratch=5000)], device=device, group="g")
    idle.poll()
    assert device.driver.budget.by_owner()["scratch group g"].used_bytes == 5000


def test_a_batch_is_not_asked_for_long_before_it_is_due(opened, monkeypatch):
    held = HeldEvents(monkeypatch)
    lane = opened()
    lane._pace.usual_ns, lane._pace.spread_ns = 1_000_000_000, 1_000_000
    lane.submit(lane.acquire(), fill_with(1.0), None)
    due = lane._flying[0].look_ns
    lane._flying[0].is_read = True
    assert lane.poll() == []
    assert lane.look_ns(0) == due  # one that was polled for another reason is asked for no later
    held.passed = True


def test_a_second_refusal_after_a_failed_batch_is_its_error(opened, monkeypatch):
    lane = opened()

    def refuse(stream, event):
        raise DeviceError("no record")

    with monkeypatch.context() as patch:
        patch.setattr(HostStream, "record", refuse)
        lane.submit(lane.acquire(), fill_with(1.0), "tag")
    [completed] = lane.poll()
    assert (completed.tag, str(completed.error)) == ("tag", "no record")


def test_an_engine_that_fails_fails_its_batch_and_its_outputs_are_not_told(opened):
    context = FakeContext()
    lane = opened(contexts=[context])
    lane.release(run(lane, fill_with(1.0)).buffers)
    context.fails = ModelError("did not run")
    failed = run(lane, fill_with(2.0))
    assert str(failed.error) == "did not run"
    context.fails = None
    lane.release(failed.buffers)
    assert run(lane, fill_with(3.0)).error is None


def test_a_batch_without_inputs_never_runs_the_ones_before(opened):
    lane = opened()
    lane.release(run(lane, fill_with(1.0)).buffers)
    lane.release(run(lane, fill_with(1.0)).buffers)
    assert "no inputs" in str(run(lane, lambda buffers: None).error)


def test_a_graph_is_captured_once_for_each_shape_and_buffer_set_and_launched_after(opened, monkeypatch):
    graphs = Graphs(monkeypatch)
    lane = opened()
    for _ in range(6):
        lane.release(run(lane, fill_with(1.0)).buffers)
    assert (lane.runner.enqueued, lane.runner.captured, lane.runner.launched) == (2, 2, 4)
    assert graphs.open == 2
    lane.close()
    assert graphs.open == 0


def test_the_graph_used_longest_ago_makes_room(opened, monkeypatch):
    graphs = Graphs(monkeypatch)
    lane = opened(graphs=1)
    for count in (1, 1, 2, 2, 1, 1):
        lane.release(run(lane, fill_with(1.0, count)).buffers)
    assert graphs.open == 2
    assert lane.runner.captured == 6


def test_without_graphs_every_batch_is_enqueued(opened, monkeypatch):
    Graphs(monkeypatch)
    lane = opened(graphs=0)
    for _ in range(4):
        lane.release(run(lane, fill_with(1.0)).buffers)
    assert (lane.runner.enqueued, lane.runner.captured) == (4, 0)


def test_an_engine_that_cannot_be_captured_is_told_once_and_runs(opened, caplog):
    lane = opened()
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            completed = run(lane, fill_with(1.0))
            assert completed.error is None
            lane.release(completed.buffers)
    assert [record.getMessage() for record in caplog.records] == [
        "model fake: cannot be captured as a graph, so it runs without: The host has no graphs."
    ]


def test_times_of_the_device_come_with_a_timed_lane(opened):
    completed = run(opened(timed=True), fill_with(1.0))
    assert completed.device is not None
    assert min(completed.device.fill_ms, completed.device.compute_ms, completed.device.fetch_ms) >= 0


def test_an_error_of_fill_after_it_has_enqueued_still_marks_the_end(opened):
    def fill(buffers):
        fill_with(1.0)(buffers)
        raise FrameError("the second frame is bad")

    assert isinstance(run(opened(), fill).error, FrameError)


def test_models_of_a_group_share_the_largest_scratch_and_move_when_it_grows(opened):
    device = open_device("host")
    small, large = FakeContext(scratch=1000), FakeContext(scratch=5000)
    first = opened(contexts=[small], device=device, group="g")
    before = small.scratch
    second = opened(contexts=[large], device=device, group="g")
    first.release(run(first, fill_with(1.0)).buffers)

    assert small.scratch == large.scratch != before
    assert device.driver.budget.by_owner()["scratch group g"].used_bytes == 5000
    first.close()
    second.close()
    assert device.driver.budget.used_bytes == 0


def test_a_lane_that_does_not_fit_leaves_nothing(opened):
    device = open_device("host")
    device.driver.budget.limit_bytes = 1100
    context = FakeContext(scratch=1000)
    with pytest.raises(OutOfDeviceMemoryError, match="fake 1000"):
        opened(contexts=[context], device=device)
    assert device.driver.budget.used_bytes == 0
    assert context.is_closed


def test_copies_of_outputs_are_counted_where_they_are_made(opened):
    device = open_device("host")
    device.memory = type(device.memory)(device.memory.slots, True, device.memory.outputs, True, "forced")
    run(opened(device=device), fill_with(1.0, 2))
    assert device.copies.bytes.snapshot() == {"device_to_host": 2 * 4 * 4}


@pytest.fixture
def staged():
    device = open_device("host")
    device.memory = type(device.memory)(device.memory.slots, True, device.memory.outputs, True, "forced")
    return device


def leaving(value, target, fetched):
    """Return a fill that lets output `y` be copied to a buffer, and only `fetched` come to the host."""

    def fill(buffers):
        fill_with(value)(buffers)
        buffers.leave([(target.address, buffers.left()["y"].address, 2 * 4 * 4)], fetched)

    return fill


@pytest.mark.parametrize("is_timed", [False, True], ids=["", "timed"])
def test_an_output_may_be_copied_on_the_device_and_not_to_the_host(opened, staged, is_timed):
    lane, target = opened(device=staged, timed=is_timed), staged.driver.allocate(32)
    completed = run(lane, leaving(3.0, target, frozenset()))
    np.testing.assert_array_equal(target.array_u8.view(np.float32), 3.0)
    assert completed.buffers.outputs() == {}
    assert staged.copies.bytes.snapshot() == {"device_to_device": 2 * 4 * 4}
    lane.release(completed.buffers)
    target.free()


def test_what_one_batch_leaves_the_next_of_its_buffer_set_does_not(opened, staged):
    lane, target = opened(device=staged), staged.driver.allocate(32)
    for _ in range(2):
        lane.release(run(lane, leaving(3.0, target, frozenset())).buffers)
    target.array_u8[:] = 0
    for _ in range(2):
        completed = run(lane, fill_with(4.0))
        np.testing.assert_array_equal(completed.buffers.outputs()["y"][:2], 4.0)
        lane.release(completed.buffers)
    assert not target.array_u8.any()
    target.free()


def test_outputs_that_are_not_staged_are_seen_by_the_host_whatever_stays(opened):
    device = open_device("host")
    lane, target = opened(device=device), device.driver.allocate(32)
    completed = run(lane, leaving(3.0, target, frozenset()))
    np.testing.assert_array_equal(completed.buffers.outputs()["y"][:2], 3.0)
    np.testing.assert_array_equal(target.array_u8.view(np.float32), 3.0)
    assert device.copies.bytes.snapshot() == {"device_to_device": 2 * 4 * 4}
    lane.release(completed.buffers)
    target.free()


def test_a_batch_that_fails_copies_nothing_on(opened, staged):
    context = FakeContext()
    lane, target = opened(device=staged, contexts=[context]), staged.driver.allocate(32)
    context.fails = ModelError("did not run")
    lane.release(run(lane, leaving(3.0, target, frozenset())).buffers)
    assert staged.copies.copies.snapshot() == {}
    target.free()


def test_a_batch_without_inputs_leaves_no_outputs(opened):
    failed = run(opened(), lambda buffers: buffers.left())
    assert "did not run" in str(failed.error)


def test_host_has_no_kernels_and_no_graphs():
    driver = open_device("host").driver
    stream = driver.open_stream()
    for ask in (stream.begin_capture, stream.end_capture, lambda: stream.launch(None)):
        with pytest.raises(DeviceError):
            ask()
    stream.close()
