"""How a lane's batches run: at which shapes, in which order, as a graph or without. See test_device_lane."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from edgert.device.host import HostEvent
from edgert.device.memory import Budget, MemoryKind
from edgert.errors import DeviceError, DeviceLostError, ModelError, OutOfDeviceMemoryError
from edgert.execute.bindings import NOTHING, BindingCache, TensorMemory
from edgert.execute.engine import EngineInfo
from edgert.execute.runner import MAX_KNOWN_SHAPES, Runner, batch_sizes
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.device_lane import INFO
from tests.fakes.engine_context import FakeContext
from tests.fakes.noted_device import NotedDriver, open_noted

FIXED = EngineInfo(
    "fake", (TensorSpec("x", "float32", (2, 4)),), (TensorSpec("y", "float32", (2, 4)),), batches=False
)


class NotedContext(FakeContext):
    """Counts how often it was asked what it covers, and which shapes were set."""

    def __init__(self, **options):
        super().__init__(**options)
        self.asked = 0
        self.set = []

    def covers(self, shapes):
        self.asked += 1
        return super().covers(shapes)

    def set_shapes(self, shapes):
        self.set.append(shapes)
        return super().set_shapes(shapes)


class Rig:
    """A device with its scratch groups; runners, with the caches of one buffer set each."""

    def __init__(self, driver=None, **memory):
        self.driver = driver or NotedDriver(has_graphs=True)
        self.device = open_noted(self.driver, **memory)
        self.stream = self.driver.open_stream()
        self._opened = [self.stream]

    def runner(self, *contexts, max_batch=8, group="", info=INFO):
        scratch = self.device.scratch.of(group, "model fake")
        runner = Runner(contexts or [NotedContext()], info, scratch, batch_sizes(max_batch), "model fake")
        self._opened.append(runner)
        return runner

    def cache(self, runner, *, graphs=8):
        memory = TensorMemory(self.driver, self.device.memory, INFO, runner.largest(), "model fake")
        self._opened.append(BindingCache(memory, graphs))
        return self._opened[-1]

    def run(self, runner, cache, *, batch=2, fetched=None):
        binding = runner.bind(cache, {"x": (batch, 4)})
        runner.run(binding, self.stream, cache, fetched)
        return binding

    def close(self):
        for part in reversed(self._opened):
            part.close()
        assert (self.driver.budget.used_bytes, self.driver.open_graphs) == (0, 0)


@pytest.fixture
def rig():
    rig = Rig()
    with rig.driver.current():
        yield rig
        rig.close()


# Sizes


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))],
)
def test_batches_run_at_powers_of_two_and_the_largest_size(largest, sizes):
    assert batch_sizes(largest) == sizes


def test_the_largest_shapes_are_those_over_all_profiles(rig):
    runner = rig.runner(FakeContext(maximum=2), FakeContext(minimum=4, maximum=8), FakeContext(maximum=1))
    assert runner.largest() == {"x": (8, 4), "y": (8, 4)}


def test_an_engine_without_a_batch_axis_runs_the_shapes_it_is_asked_for(rig):
    context = NotedContext(minimum=2, maximum=2)
    runner = rig.runner(context, info=FIXED, max_batch=1)
    assert rig.run(runner, rig.cache(runner)).shapes == ((2, 4),)


def test_who_covers_which_shapes_is_found_once(rig):
    context = NotedContext()
    runner = rig.runner(context)
    cache = rig.cache(runner)
    first = runner.bind(cache, {"x": (3, 4)})
    asked = context.asked
    assert runner.bind(cache, {"x": (3, 4)}) is first
    assert context.asked == asked


def test_sizes_that_run_alike_share_a_binding(rig):
    runner = rig.runner()
    cache = rig.cache(runner)
    assert runner.bind(cache, {"x": (3, 4)}) is runner.bind(cache, {"x": (4, 4)})


def test_a_sender_that_sends_ever_other_sizes_costs_no_memory(rig):
    class Any(NotedContext):
        def covers(self, shapes):
            self.asked += 1
            return True

    context = Any()
    runner = rig.runner(context)
    for width in range(MAX_KNOWN_SHAPES + 10):
        runner._covering(((1, width),))
    assert len(runner._known) <= MAX_KNOWN_SHAPES
    asked = context.asked
    runner._covering(((1, MAX_KNOWN_SHAPES + 9),))
    assert context.asked == asked


def test_shapes_that_no_profile_covers_are_named_with_their_model(rig):
    runner = rig.runner(FakeContext(maximum=4), max_batch=4)
    with pytest.raises(ModelError) as refused:
        runner.bind(rig.cache(runner), {"x": (2, 5)})
    assert str(refused.value) == "model fake: no profile of the engine covers x [2, 5]."


def test_a_batch_that_is_larger_than_the_lanes_is_refused(rig):
    class Bounded(FakeContext):
        def largest(self):
            return {"x": (2, 4), "y": (2, 4)}

    runner = rig.runner(Bounded(maximum=8), max_batch=2)
    with pytest.raises(ModelError):
        runner.bind(rig.cache(runner), {"x": (8, 4)})


# Scratch memory


def test_all_contexts_use_one_scratch_memory_as_large_as_the_largest_needs(rig):
    small, large = FakeContext(scratch=1000), FakeContext(scratch=3000)
    rig.runner(small, large)
    assert small.scratch == large.scratch
    assert rig.driver.budget.by_owner()["model fake"].used_bytes == 3000


def test_a_run_of_a_group_waits_for_the_last_one_and_marks_its_own_end(rig):
    runner = rig.runner(group="g")
    rig.run(runner, rig.cache(runner, graphs=0))
    assert rig.driver.verbs() == ["wait", "record"]


def test_a_run_that_fails_marks_its_end_too(rig):
    context = FakeContext()
    runner = rig.runner(context, group="g")
    context.fails = ModelError("did not run")
    with pytest.raises(ModelError, match="did not run"):
        rig.run(runner, rig.cache(runner))
    assert rig.driver.verbs() == ["wait", "record"]


def test_a_runner_moves_to_scratch_memory_that_has_grown(rig):
    context = FakeContext(scratch=1000)
    runner = rig.runner(context, group="g")
    before = context.scratch
    rig.runner(FakeContext(scratch=5000), group="g")
    assert not runner.is_settled()
    runner.move()
    assert runner.is_settled()
    assert context.scratch != before
    assert rig.driver.budget.by_owner()["scratch group g"].used_bytes == 5000


def test_no_room_for_scratch_memory_is_told():
    driver = NotedDriver(Budget(500))
    with pytest.raises(OutOfDeviceMemoryError):
        Runner([FakeContext()], INFO, open_noted(driver).scratch.of("", "m"), batch_sizes(8), "m")
    assert driver.budget.used_bytes == 0


def test_closing_closes_the_contexts_and_frees_the_scratch_memory():
    driver, events = NotedDriver(), HostEvent.live.count
    contexts = [FakeContext(), FakeContext()]
    with driver.current():
        Runner(contexts, INFO, open_noted(driver).scratch.of("g", "m"), batch_sizes(8), "m").close()
    assert all(context.is_closed for context in contexts)
    assert (driver.budget.used_bytes, HostEvent.live.count) == (0, events)


# Runs


@pytest.fixture
def staged():
    rig = Rig(outputs=MemoryKind.PINNED, outputs_are_staged=True)
    with rig.driver.current():
        yield rig
        rig.close()


def test_outputs_are_fetched_behind_the_engine(staged):
    runner = staged.runner()
    cache = staged.cache(runner, graphs=0)
    binding = runner.bind(cache, {"x": (2, 4)})
    memory = (ctypes.c_float * 8).from_address(binding.inputs["x"].address)
    memory[:] = range(8)
    runner.run(binding, staged.stream, cache)
    np.testing.assert_array_equal(binding.outputs["y"].ravel(), np.arange(8))
    assert staged.driver.verbs() == ["copy"]


def test_outputs_are_left_to_the_lane_where_it_wants_to_fetch_them(staged):
    runner = staged.runner()
    staged.run(runner, staged.cache(runner, graphs=0), fetched=NOTHING)
    assert staged.driver.verbs() == []


def test_the_copies_of_the_outputs_are_part_of_the_graph(staged):
    runner = staged.runner()
    cache = staged.cache(runner)
    staged.run(runner, cache)
    assert staged.driver.verbs() == ["copy", "begin", "copy", "end"]
    staged.run(runner, cache)
    assert staged.driver.verbs()[4:] == ["launch"]


def test_a_batch_that_nobody_wants_on_the_host_has_a_graph_of_its_own(staged):
    runner = staged.runner()
    cache = staged.cache(runner)
    staged.run(runner, cache)
    binding = staged.run(runner, cache, fetched=NOTHING)
    assert staged.driver.verbs()[4:] == ["begin", "end"]
    graphs = [cache.graph(binding.shapes, fetched) for fetched in (None, NOTHING)]
    for fetched in (NOTHING, None, NOTHING):
        staged.run(runner, cache, fetched=fetched)
    launched = [asked.what for asked in staged.driver.asked if asked.verb == "launch"]
    assert launched == [graphs[1], graphs[0], graphs[1]]
    assert (runner.captured, runner.enqueued, runner.launched) == (2, 2, 3)


def test_waits_and_marks_of_a_group_are_not_part_of_the_graph(rig):
    runner = rig.runner(group="g")
    cache = rig.cache(runner)
    for _ in range(2):
        rig.run(runner, cache)
    assert rig.driver.verbs() == ["wait", "begin", "end", "record", "wait", "launch", "record"]


def test_a_launch_needs_no_shapes_set(rig):
    context = NotedContext()
    runner = rig.runner(context)
    cache = rig.cache(runner)
    binding = rig.run(runner, cache, batch=2)
    rig.run(runner, cache, batch=4)
    context.set.clear()
    assert rig.run(runner, cache, batch=2) is binding
    assert (context.set, runner.launched) == ([], 1)


def test_a_run_without_a_graph_sets_the_shapes_again_that_another_has_changed(rig):
    context = NotedContext()
    runner = rig.runner(context)
    cache = rig.cache(runner, graphs=0)
    for batch in (2, 4, 2):
        rig.run(runner, cache, batch=batch)
    assert context.ran == [((2, 4),), ((4, 4),), ((2, 4),)]


def test_a_capture_that_the_device_refuses_is_not_tried_again(rig, caplog):
    runner = rig.runner()
    cache = rig.cache(runner)
    rig.driver.failures["end"] = DeviceError("a synchronous call")
    rig.run(runner, cache)
    rig.run(runner, cache)
    assert (runner.enqueued, runner.captured) == (2, 0)
    assert rig.driver.verbs().count("begin") == 1
    assert [record.getMessage() for record in caplog.records] == [
        "model fake: cannot be captured as a graph, so it runs without: a synchronous call"
    ]


def test_an_engine_that_refuses_to_be_captured_leaves_no_graph(rig):
    class Once(FakeContext):
        def enqueue(self, tensors, stream):
            super().enqueue(tensors, stream)
            self.fails = ModelError("not while capturing")

    runner = rig.runner(Once())
    rig.run(runner, rig.cache(runner))
    left, rig.driver.open_graphs = rig.driver.open_graphs, 0
    assert left == 0


def test_a_device_that_is_lost_while_capturing_is_told(rig):
    runner = rig.runner(group="g")
    rig.driver.failures["end"] = DeviceLostError("gone")
    with pytest.raises(DeviceLostError, match="gone"):
        rig.run(runner, rig.cache(runner))
