"""Lanes on a device: order, release of slots, graphs, shared scratch, failures."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import FrameError
from edgert.execute.engine import LaneOptions
from tests.gpu.conftest import Gate, filler, finish, run
from tests.gpu.plans import batches, build_plan

pytestmark = pytest.mark.gpu

ITEM = (3, 32, 32)


@pytest.fixture
def network(make_onnx):
    """A plan with weights' worth of work: a few squarings of a sum."""
    nodes = [("Add", ["x", "x"], ["a"]), ("Mul", ["a", "a"], ["b"]), ("Sigmoid", ["b"], ["y"])]
    shape = ("float32", ["n", *ITEM])
    model = make_onnx(nodes, {"x": shape}, {"y": shape})
    return build_plan(model, model.with_name("model.plan"), batches("x", ITEM, 4))


def expected(x):
    return 1 / (1 + np.exp(-np.square(2.0 * x)))


def picture(seed, count=1):
    return np.random.default_rng(seed).standard_normal((count, *ITEM), np.float32)


def test_batches_in_flight_do_not_mix(load, network, pinned):
    lanes = [load(network).open_lane(4, lambda: None) for _ in range(2)]
    inputs = [picture(seed) for seed in range(40)]
    sources = [pinned(x) for x in inputs]
    results = {}
    waiting = list(range(40))
    while len(results) < 40:
        for lane in lanes:
            while waiting and (buffers := lane.acquire()):
                index = waiting.pop(0)
                lane.submit(buffers, filler("x", sources[index], (1, *ITEM)), index)
            for done in lane.poll():
                assert done.error is None
                results[done.tag] = np.copy(done.buffers.outputs()["y"][:1])
                lane.release(done.buffers)
    for index, x in enumerate(inputs):
        np.testing.assert_allclose(results[index], expected(x), atol=2e-3)


def test_slots_stay_taken_while_a_copy_waits_and_go_before_the_engine_ends(load, device, network, pinned):
    lane = load(network).open_lane(4, lambda: None)
    x = picture(0)
    run(lane, filler("x", pinned(x), x.shape))
    read = []
    buffers = lane.acquire()
    copy_gate = Gate(device, buffers.stream)
    compute_gate = Gate(device, lane._compute)
    lane.submit(buffers, filler("x", pinned(x), x.shape), None, lambda: read.append("read"))
    for _ in range(1000):
        assert (lane.poll(), read) == ([], [])
    copy_gate.open()
    while not read:
        assert lane.poll() == []
    for _ in range(1000):
        assert lane.poll() == []
    compute_gate.open()
    [done] = finish(lane)
    np.testing.assert_allclose(done.buffers.outputs()["y"][:1], expected(x), atol=2e-3)
    lane.release(done.buffers)
    copy_gate.close()
    compute_gate.close()


def test_next_batch_is_copied_while_one_runs(load, device, network, pinned):
    lane = load(network).open_lane(4, lambda: None)
    x = picture(0)
    source = pinned(x)
    for _ in range(2):
        run(lane, filler("x", source, x.shape))
    gate = Gate(device, lane._compute)
    read = []
    for tag in ("first", "second"):
        lane.submit(lane.acquire(), filler("x", source, x.shape), tag, lambda: read.append(1))
    while len(read) < 2:
        assert lane.poll() == []
    gate.open()
    assert [done.tag for done in finish(lane, 2)] == ["first", "second"]
    gate.close()


def test_graphs_give_what_enqueueing_gives(load, network, pinned):
    engine = load(network)
    with_graphs = engine.open_lane(4, lambda: None, LaneOptions(graphs=8))
    without = engine.open_lane(4, lambda: None, LaneOptions(graphs=0))
    for seed in range(12):
        x = picture(seed, 1 + seed % 4)
        fill = filler("x", pinned(x), x.shape)
        np.testing.assert_array_equal(
            run(with_graphs, fill)["y"][: len(x)], run(without, fill)["y"][: len(x)]
        )
    assert with_graphs.runner.launched > 0
    assert without.runner.launched == 0


def test_a_failed_fill_gives_an_error_and_never_the_outputs_before(load, network, pinned):
    lane = load(network).open_lane(4, lambda: None)
    x = picture(0)
    fill = filler("x", pinned(x), x.shape)
    run(lane, fill)

    def fail(buffers):
        fill(buffers)
        raise FrameError("bad")

    with pytest.raises(FrameError):
        run(lane, fail)
    np.testing.assert_allclose(run(lane, fill)["y"][:1], expected(x), atol=2e-3)


def test_lanes_that_share_scratch_are_right_and_take_the_largest_only(load, device, network, pinned):
    options = LaneOptions(scratch_group="both")
    lanes = [load(network).open_lane(4, lambda: None, options) for _ in range(3)]
    owners = device.driver.budget.by_owner()
    assert owners["scratch group both"].count == 1
    inputs = [picture(seed) for seed in range(30)]
    sources = [pinned(x) for x in inputs]
    for start in range(0, 30, 3):
        for lane, index in zip(lanes, range(start, start + 3), strict=True):
            lane.submit(lane.acquire(), filler("x", sources[index], (1, *ITEM)), index)
        for lane in lanes:
            [done] = finish(lane)
            np.testing.assert_allclose(done.buffers.outputs()["y"][:1], expected(inputs[done.tag]), atol=2e-3)
            lane.release(done.buffers)


def test_times_of_the_device_are_told(load, network, pinned):
    lane = load(network).open_lane(4, lambda: None, LaneOptions(is_timed=True))
    x = picture(0)
    lane.submit(lane.acquire(), filler("x", pinned(x), x.shape), None)
    [done] = finish(lane)
    assert done.error is None
    assert min(done.device.fill_ms, done.device.compute_ms, done.device.fetch_ms) > 0
    lane.release(done.buffers)


def test_nothing_is_allocated_for_a_batch(load, device, network, pinned):
    lane = load(network).open_lane(4, lambda: None)
    x = picture(0)
    fill = filler("x", pinned(x), x.shape)
    for _ in range(4):
        run(lane, fill)
    events = len(device.driver.budget.events())
    free = device.driver.memory_info()[0]
    for _ in range(200):
        run(lane, fill)
    assert len(device.driver.budget.events()) == events
    assert device.driver.memory_info()[0] == free
