"""What every Lane does, the fake one included."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from edgert.device.host import HostDriver
from edgert.errors import BusyError, ClosedError, FrameError, ModelError
from edgert.execute.noop_engine import NoopEngine
from edgert.execute.onnx_engine import load_onnx_engine
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.device_lane import HostFacing, open_lane
from tests.fakes.lane import Bell, FakeLane

X, Y = TensorSpec("x", "float32", (-1, 4)), TensorSpec("y", "float32", (-1, 4))


class Rig:
    """A lane, and how to let its batch in flight complete."""

    def __init__(self, open_lane, settle=None):
        self.bell = Bell()
        self.lane = open_lane(self.bell)
        self._settle = settle

    def complete(self):
        if self._settle:
            self._settle(self.lane)
        return self.bell.next_from(self.lane)

    def run(self, fill, tag=None):
        self.lane.submit(self.lane.acquire(), fill, tag)
        return self.complete()


def fill_ones(buffers):
    buffers.inputs({"x": (2, 4)})["x"][:] = 1


class Token:
    """Something that a weak reference can watch."""


@pytest.fixture(params=["onnx", "noop", "fake", "device"])
def rig(request):
    if request.param == "fake":
        made = Rig(FakeLane, FakeLane.finish)
    elif request.param == "device":
        made = Rig(lambda on_done: HostFacing(open_lane(on_done)))
    elif request.param == "noop":
        made = Rig(lambda on_done: NoopEngine((X,), (Y,)).open_lane(2, on_done))
    else:
        file = request.getfixturevalue("make_onnx")(
            [("Identity", ["x"], ["y"])], {"x": ("float32", ["n", 4])}, {"y": ("float32", ["n", 4])}
        )
        engine = load_onnx_engine(file, 1, HostDriver().allocate)
        made = Rig(lambda on_done: engine.open_lane(2, on_done))
    yield made
    made.lane.close()


class TestLane:
    def test_gives_back_the_batch_with_its_tag_buffers_and_outputs(self, rig):
        buffers = rig.lane.acquire()
        rig.lane.submit(buffers, fill_ones, "tag")

        completed = rig.complete()

        assert completed.tag == "tag"
        assert completed.buffers is buffers
        assert completed.error is None
        assert completed.buffers.outputs()["y"].shape == (2, 4)

    def test_times_of_a_batch_are_in_order(self, rig):
        completed = rig.run(fill_ones)
        assert completed.started_mono_ns <= completed.filled_mono_ns <= completed.finished_mono_ns

    def test_polling_again_returns_nothing(self, rig):
        rig.run(fill_ones)
        assert rig.lane.poll() == []

    def test_polling_before_the_first_batch_returns_nothing(self, rig):
        assert rig.lane.poll() == []

    def test_second_buffer_set_is_there_while_the_first_is_being_decoded(self, rig):
        first = rig.run(fill_ones)
        second = rig.lane.acquire()
        assert second is not None
        assert second is not first.buffers

    def test_outputs_stay_as_they_are_while_the_other_buffer_set_runs(self, rig):
        first = rig.run(fill_ones)
        before = np.copy(first.buffers.outputs()["y"])

        rig.run(lambda buffers: buffers.inputs({"x": (2, 4)})["x"].fill(7))

        np.testing.assert_array_equal(first.buffers.outputs()["y"], before)

    def test_gives_no_third_buffer_set(self, rig):
        rig.run(fill_ones)
        rig.run(fill_ones)
        assert rig.lane.acquire() is None

    def test_a_released_buffer_set_is_free_again(self, rig):
        first = rig.run(fill_ones)
        rig.run(fill_ones)
        rig.lane.release(first.buffers)
        assert rig.lane.acquire() is first.buffers

    def test_releasing_a_buffer_set_that_was_awaited_calls_on_done(self, rig):
        first = rig.run(fill_ones)
        rig.run(fill_ones)
        rig.bell.silence()
        assert rig.lane.acquire() is None
        rig.lane.release(first.buffers)
        rig.bell.wait()
        assert rig.lane.acquire() is not None

    def test_a_buffer_set_may_be_released_unused(self, rig):
        for _ in range(3):
            rig.lane.release(rig.lane.acquire())
        assert rig.lane.acquire() is not None

    def test_releasing_twice_is_refused(self, rig):
        buffers = rig.lane.acquire()
        rig.lane.release(buffers)
        with pytest.raises(BusyError):
            rig.lane.release(buffers)

    def test_releasing_another_lanes_buffers_is_refused(self, rig):
        with pytest.raises(BusyError):
            rig.lane.release(FakeLane().acquire())

    def test_submitting_another_lanes_buffers_is_refused_and_the_lane_goes_on(self, rig):
        with pytest.raises(BusyError):
            rig.lane.submit(FakeLane(sets=5).acquire(), fill_ones, None)
        completed = rig.run(fill_ones, "next")
        assert completed.tag == "next"

    def test_submitting_buffers_that_are_free_is_refused(self, rig):
        buffers = rig.lane.acquire()
        rig.lane.release(buffers)
        with pytest.raises(BusyError):
            rig.lane.submit(buffers, fill_ones, None)

    def test_an_error_of_edgert_in_fill_is_the_batchs_error(self, rig):
        failure = FrameError("bad frame")

        def fill(buffers):
            raise failure

        completed = rig.run(fill, "tag")
        assert completed.error is failure
        assert completed.tag == "tag"

    def test_any_other_error_in_fill_is_a_model_error_with_its_cause(self, rig):
        def fill(buffers):
            raise ZeroDivisionError("by the lens")

        completed = rig.run(fill)
        assert isinstance(completed.error, ModelError)
        assert "by the lens" in str(completed.error)
        assert isinstance(completed.error.__cause__, ZeroDivisionError)

    def test_a_failed_batch_leaves_the_lane_usable(self, rig):
        def fail(buffers):
            raise FrameError("bad frame")

        failed = rig.run(fail)
        rig.lane.release(failed.buffers)

        assert rig.run(fill_ones).error is None

    @pytest.mark.parametrize("kind", [FrameError, ValueError])
    def test_a_failed_batch_is_not_kept_alive_by_its_error(self, rig, kind):
        def fail(buffers):
            raise kind("bad frame")

        tag = Token()
        watch = weakref.ref(tag)
        completed = rig.run(fail, tag)
        del completed, tag

        assert watch() is None

    def test_a_completed_batch_is_not_kept_by_the_lane(self, rig):
        tag = Token()
        watch = weakref.ref(tag)
        rig.run(fill_ones, tag)
        del tag

        assert watch() is None

    def test_says_when_the_frames_may_be_overwritten_before_the_batch_is_back(self, rig):
        read = []
        rig.lane.submit(rig.lane.acquire(), fill_ones, None, lambda: read.append("read"))
        rig.complete()
        assert read == ["read"]

    def test_says_so_also_of_a_batch_that_failed(self, rig):
        def fail(buffers):
            raise FrameError("bad frame")

        read = []
        rig.lane.submit(rig.lane.acquire(), fail, None, lambda: read.append("read"))
        assert rig.complete().error is not None
        assert read == ["read"]

    def test_asks_to_be_polled_at_no_time_when_nothing_is_in_flight(self, rig):
        rig.run(fill_ones)
        assert rig.lane.look_ns(0) is None

    def test_closing_completes_the_batch_in_flight(self, rig):
        rig.lane.submit(rig.lane.acquire(), fill_ones, "last")
        rig.lane.close()
        assert [completed.tag for completed in rig.lane.poll()] == ["last"]

    def test_a_closed_lane_has_no_buffers_and_refuses_batches(self, rig):
        buffers = rig.lane.acquire()
        rig.lane.close()
        assert rig.lane.acquire() is None
        with pytest.raises(ClosedError):
            rig.lane.submit(buffers, fill_ones, None)

    def test_closing_twice_does_no_harm(self, rig):
        rig.lane.close()
        rig.lane.close()
