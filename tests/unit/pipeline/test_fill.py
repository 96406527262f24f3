"""From frames to a lane's input tensor."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from edgert.errors import DeviceError, DeviceLostError, FrameError, OutOfDeviceMemoryError
from edgert.execute.device_lane import open_device_lane
from edgert.execute.engine import EngineInfo, LaneOptions
from edgert.execute.runner import Runner
from edgert.frames.placement import Placement
from edgert.frames.slots import SlotState
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.fill import WARM_UP_SIDE, Batch, DeviceFiller, HostFiller, InputLayout
from edgert.prepare.upload import Uploader
from edgert.schedule.route import Route
from edgert.stats import CopyCounts
from tests.fakes.device_fill import FakeDeviceBuffers, FakeDevicePreparer
from tests.fakes.engine_context import FakeContext
from tests.fakes.frames import FrameMaker, make_frame
from tests.fakes.lane import FakeBufferSet
from tests.fakes.noted_device import NotedDriver, open_noted

OPEN = (-1, -1, 3)
ITEM = (4, 6, 3)  # of FrameMaker's frames
SIZE = prod(ITEM)


def layout_of(item=OPEN, **changes):
    values = {
        "model": "m",
        "name": "x",
        "dtype": "uint8",
        "item": item,
        "engine_item": item,
        "has_batch_axis": True,
        "max_batch": 4,
        "takes_any_batch": True,
    }
    return InputLayout(**values | changes)


def batch_of(*frames):
    return Batch([Route(frame.source, "m") for frame in frames], list(frames), [])


class Rig:
    """A device, a lane's buffers on it, and fillers for it."""

    def __init__(self):
        self.driver = NotedDriver()
        self.copies = CopyCounts()
        self.maker = FrameMaker()
        self.stream = self.driver.open_stream()
        self._opened = []

    def fill(self, batch, layout=None, preparer=None, *, is_staged=False):
        buffers = self.buffers((layout or layout_of()).dtype)
        self.filler(layout, preparer, is_staged=is_staged).fill(batch, buffers)
        return buffers

    def filler(self, layout=None, preparer=None, *, is_staged=False):
        uploader = Uploader(self.driver, is_staged=is_staged, copies=self.copies)
        return DeviceFiller(layout or layout_of(), preparer or FakeDevicePreparer(), uploader)

    def buffers(self, dtype="uint8", *, runs_at=0):
        self._opened.append(FakeDeviceBuffers(self.driver, self.stream, dtype, runs_at=runs_at))
        return self._opened[-1]

    def close(self):
        for buffers in self._opened:
            buffers.close()
        self.stream.close()
        self.maker.close()
        assert self.driver.budget.used_bytes == 0


@pytest.fixture
def rig():
    rig = Rig()
    with rig.driver.current():
        yield rig
        rig.close()


# Layout


@pytest.mark.parametrize(
    ("changes", "count", "shape"),
    [
        ({}, 2, (2, 4, 6, 3)),
        ({"takes_any_batch": False}, 2, (4, 4, 6, 3)),
        ({"has_batch_axis": False, "takes_any_batch": False, "max_batch": 1}, 1, (4, 6, 3)),
        ({"item": ITEM, "engine_item": (72,)}, 3, (3, 72)),
    ],
    ids=["any batch", "fixed batch", "no batch", "reshaped"],
)
def test_the_tensor_has_the_engines_shape(changes, count, shape):
    assert layout_of(**changes).engine_shape(count, ITEM) == shape


@pytest.mark.parametrize("item", [ITEM, OPEN, (-1, 6, 3)])
def test_a_frame_that_has_the_engines_sides_fits(item):
    layout_of(item).demand_fitting(make_frame(), ITEM)


@pytest.mark.parametrize("item", [(4, 8, 3), (8, -1, 3), (3, 4, 6)])
def test_a_frame_that_has_other_sides_is_refused_with_both(item):
    with pytest.raises(FrameError) as refused:
        layout_of(item).demand_fitting(make_frame(), ITEM)
    assert str(refused.value) == (
        f"A frame of 6x4 becomes a tensor of [4, 6, 3]; model m takes {list(item)}."
    )


def test_a_picture_to_warm_up_has_the_engines_sides_and_the_wanted_ones_where_they_are_open():
    assert layout_of((-1, 8, 3)).warm_up_item((64, 64, 3)) == (64, 8, 3)


# Frames on a device


def test_each_frame_goes_to_its_own_place(rig):
    batch = batch_of(*(rig.maker.make(value=value) for value in (5, 6, 7)))
    buffers = rig.fill(batch)
    assert buffers.asked == [{"x": (3, 4, 6, 3)}]
    for place, value in zip(buffers.array(), (5, 6, 7), strict=True):
        np.testing.assert_array_equal(place, value)
    assert batch.placements == [Placement.stretch(6, 4, 6, 4)] * 3
    batch.release_slots()


def test_the_preparer_is_given_the_frame_its_place_and_the_lanes_stream(rig):
    preparer, frame = FakeDevicePreparer(), rig.maker.make()
    batch = batch_of(frame)
    buffers = rig.fill(batch, preparer=preparer)
    [placed] = preparer.placed
    assert placed == (frame.slot.buffer.address, "bgr8", 4, 6, buffers.tensor.address, rig.stream)
    batch.release_slots()


@pytest.mark.parametrize(
    ("dtype", "item_bytes"), [("uint8", SIZE), ("float16", 2 * SIZE), ("float32", 4 * SIZE)]
)
def test_places_are_one_picture_of_the_tensors_type_apart(rig, dtype, item_bytes):
    preparer = FakeDevicePreparer()
    batch = batch_of(*(rig.maker.make() for _ in range(3)))
    buffers = rig.fill(batch, layout_of(dtype=dtype), preparer)
    offsets = [placed.item_address - buffers.tensor.address for placed in preparer.placed]
    assert offsets == [0, item_bytes, 2 * item_bytes]
    batch.release_slots()


def test_an_engine_of_a_fixed_batch_is_given_all_its_places(rig):
    batch = batch_of(rig.maker.make())
    buffers = rig.fill(batch, layout_of(takes_any_batch=False))
    assert buffers.asked == [{"x": (4, 4, 6, 3)}]
    batch.release_slots()


def test_an_engine_that_sees_pictures_as_rows_is_given_rows(rig):
    layout = layout_of(ITEM, engine_item=(SIZE,))
    batch = batch_of(rig.maker.make(value=1), rig.maker.make(value=2))
    buffers = rig.fill(batch, layout, FakeDevicePreparer(ITEM))
    np.testing.assert_array_equal(buffers.array(), np.repeat([[1], [2]], SIZE, axis=1))
    batch.release_slots()


def test_slots_are_read_until_they_are_released(rig):
    frame = rig.maker.make()
    batch = batch_of(frame)
    rig.fill(batch)
    assert frame.slot.state is SlotState.READING
    batch.release_slots()
    assert frame.slot.state is SlotState.FREE


def test_pixels_that_the_device_cannot_reach_are_read_from_their_copy(rig):
    preparer, frame = FakeDevicePreparer(), rig.maker.make(value=9)
    batch = batch_of(frame)
    buffers = rig.fill(batch, preparer=preparer, is_staged=True)
    assert preparer.placed[0].source_address == frame.slot.mirror.buffer.address != frame.slot.buffer.address
    np.testing.assert_array_equal(buffers.array(), 9)
    assert rig.copies.bytes.snapshot() == {"host_to_device": SIZE}
    batch.release_slots()


# Frames that fail


@pytest.mark.parametrize("refusal", [FrameError("too dark"), OutOfDeviceMemoryError("no room for a mirror")])
def test_a_frame_that_cannot_be_prepared_leaves_the_others_their_places(rig, refusal):
    preparer = FakeDevicePreparer()
    preparer.failures = {1: refusal}
    batch = batch_of(*(rig.maker.make(value=value) for value in (5, 6, 7)))
    buffers = rig.fill(batch, preparer=preparer)
    good = Placement.stretch(6, 4, 6, 4)
    assert batch.placements == [good, refusal, good]
    first, _, third = buffers.array()
    np.testing.assert_array_equal((first, third), (np.full(ITEM, 5), np.full(ITEM, 7)))
    batch.release_slots()


def test_a_frame_of_an_impossible_size_fails_alone_and_is_not_copied(rig):
    good, bad = rig.maker.make(value=5), rig.maker.make()
    bad.format, bad.width = "nv12", 5
    batch = batch_of(good, bad)
    buffers = rig.fill(batch, layout_of(ITEM), FakeDevicePreparer(ITEM), is_staged=True)
    assert isinstance(batch.placements[1], FrameError)
    np.testing.assert_array_equal(buffers.array()[0], 5)
    assert rig.copies.copies.total() == 1
    batch.release_slots()


@pytest.mark.parametrize("failure", [DeviceError("no launch"), DeviceLostError("gone")])
def test_what_the_device_refuses_is_the_whole_batchs_and_slots_can_still_be_released(rig, failure):
    preparer = FakeDevicePreparer()
    preparer.failures = {1: failure}
    batch = batch_of(*(rig.maker.make() for _ in range(3)))
    with pytest.raises(type(failure), match=str(failure)):
        rig.fill(batch, preparer=preparer)
    batch.release_slots()


def test_frames_that_the_engine_cannot_take_refuse_the_batch_before_anything_is_begun(rig):
    batch = batch_of(rig.maker.make(), rig.maker.make())
    buffers, preparer = rig.buffers(), FakeDevicePreparer()
    with pytest.raises(FrameError, match=r"becomes a tensor of \[4, 6, 3\]; model m takes \[8, 8, 3\]"):
        rig.filler(layout_of((8, 8, 3)), preparer).fill(batch, buffers)
    assert (buffers.asked, preparer.placed, batch.placements) == ([], [], [])
    assert {frame.slot.state for frame in batch.frames} == {SlotState.READY}
    batch.release_slots()


# Warming up


def test_zeros_fill_also_the_places_that_the_lane_adds(rig):
    buffers = rig.buffers("float32", runs_at=8)
    rig.filler(layout_of(ITEM, dtype="float32")).fill_zeros(buffers, 5)
    assert buffers.asked == [{"x": (5, 4, 6, 3)}]
    assert buffers.array().shape == (8, 4, 6, 3)
    np.testing.assert_array_equal(buffers.array(), 0)


def test_zeros_have_a_usual_size_where_the_engine_takes_any(rig):
    buffers = rig.buffers()
    rig.filler(layout_of((-1, 8, 3))).fill_zeros(buffers, 1)
    assert buffers.asked == [{"x": (1, WARM_UP_SIDE, 8, 3)}]


# With a real lane


def test_frames_come_out_of_a_real_lane(rig):
    """Output y is input x, which the engine sees as rows; three frames run as four."""
    specs = TensorSpec("x", "float32", (-1, SIZE)), TensorSpec("y", "float32", (-1, SIZE))
    info = EngineInfo("fake", specs[:1], specs[1:], batches=True)
    device = open_noted(rig.driver)
    context = FakeContext(width=SIZE)
    runner = Runner([context], info, device.scratch.of("", "m"), (1, 2, 4), "model m")
    lane = open_device_lane(runner, info, device, LaneOptions(graphs=0), lambda: None, "model m")
    layout = layout_of(ITEM, dtype="float32", engine_item=(SIZE,))
    filler = rig.filler(layout, FakeDevicePreparer(ITEM), is_staged=True)
    batch = batch_of(*(rig.maker.make(value=value) for value in (5, 6, 7)))

    buffers = lane.acquire()
    lane.submit(buffers, lambda own: filler.fill(batch, own), batch, batch.release_slots)
    [completed] = lane.poll()

    assert completed.error is None
    assert context.ran == [((4, SIZE),)]
    rows = completed.buffers.outputs()["y"]
    for row, value in zip(rows, (5, 6, 7), strict=False):
        np.testing.assert_array_equal(row.view(np.uint8)[:SIZE], value)
    assert {frame.slot.state for frame in batch.frames} == {SlotState.FREE}
    lane.close()


# On the host


class HostPreparer:
    """Writes a frame's first pixel everywhere; refuses 255."""

    def shape_for(self, pixel_format, height, width):
        return (height, width, 3)

    def place(self, image, pixel_format, item_out):
        if image[0, 0, 0] == 255:
            raise FrameError("too bright")
        item_out[...] = image[0, 0, 0]
        return Placement.stretch(6, 4, 6, 4)


def host_tensor(buffers):
    return buffers.outputs()["y"]


def test_on_the_host_frames_are_in_their_places_at_once(rig):
    buffers = FakeBufferSet(0)
    batch = batch_of(*(rig.maker.make(value=value) for value in (5, 255, 7)))
    HostFiller(layout_of(dtype="float32"), HostPreparer()).fill(batch, buffers)
    assert [str(each) for each in batch.placements[1:2]] == ["too bright"]
    assert [place.flat[-1] for place in host_tensor(buffers)] == [5, 0, 7]
    batch.release_slots()


def test_on_the_host_rows_are_filled_as_pictures(rig):
    buffers = FakeBufferSet(0)
    batch = batch_of(rig.maker.make(value=3))
    HostFiller(layout_of(ITEM, engine_item=(SIZE,)), HostPreparer()).fill(batch, buffers)
    np.testing.assert_array_equal(host_tensor(buffers), np.full((1, SIZE), 3))
    batch.release_slots()


def test_on_the_host_a_picture_without_a_batch_axis_is_the_tensor(rig):
    buffers, layout = FakeBufferSet(0), layout_of(ITEM, has_batch_axis=False, max_batch=1)
    batch = batch_of(rig.maker.make(value=3))
    HostFiller(layout, HostPreparer()).fill(batch, buffers)
    np.testing.assert_array_equal(host_tensor(buffers), np.full(ITEM, 3))
    batch.release_slots()


def test_on_the_host_frames_that_the_engine_cannot_take_refuse_the_batch(rig):
    batch = batch_of(rig.maker.make())
    with pytest.raises(FrameError, match=r"model m takes \[8, 8, 3\]"):
        HostFiller(layout_of((8, 8, 3)), HostPreparer()).fill(batch, FakeBufferSet(0))
    assert batch.placements == []
    batch.release_slots()


def test_on_the_host_zeros_replace_what_was_there_before():
    class Reused(FakeBufferSet):
        def inputs(self, shapes):
            super().inputs(shapes)["x"][...] = 9
            return self._arrays

    buffers = Reused(0)
    HostFiller(layout_of((-1, 8, 3)), HostPreparer()).fill_zeros(buffers, 2)
    assert host_tensor(buffers).shape == (2, WARM_UP_SIDE, 8, 3)
    np.testing.assert_array_equal(host_tensor(buffers), 0)


def test_a_batch_gives_back_the_claim_of_each_frame(rig):
    frames = [rig.maker.make(claims=2), rig.maker.make()]
    batch_of(*frames).release_slots()
    assert [frame.slot.claims for frame in frames] == [1, 0]
    frames[0].slot.release()
