"""A model at work on lanes that the test controls."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from edgert.decode.decoder import ScoreLimited
from edgert.decode.ssd import SsdOptions
from edgert.errors import ModelError, OutOfDeviceMemoryError
from edgert.execute.engine import EngineInfo
from edgert.frames.placement import Placement
from edgert.frames.result import Tensors
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.fill import HostFiller, InputLayout
from edgert.pipeline.loaded_model import LoadedModel
from edgert.schedule.batcher import Batcher, BatchPolicy
from edgert.schedule.route import Route
from tests.fakes.frames import FrameMaker
from tests.fakes.lane import FakeLane

SPECS = (TensorSpec("x", "float32", (-1, 4, 6, 3)),), (TensorSpec("y", "float32", (-1, 4, 6, 3)),)


class Lane(FakeLane):
    """A FakeLane that finishes what it is given at once while `is_eager`."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.is_eager = True
        self.submitted = []

    def submit(self, buffers, fill, tag, on_read=lambda: None):
        super().submit(buffers, fill, tag, on_read)
        self.submitted.append(buffers.index)
        if self.is_eager:
            self.finish()


class Engine:
    """An Engine of FakeLanes; `lanes` are those it was asked for."""

    def __init__(self, *, info=None, lane=Lane):
        self.info = info or EngineInfo("fake", *SPECS, batches=True)
        self.lanes = []
        self.is_closed = False
        self._lane = lane

    is_driven = False

    def open_lane(self, max_batch, on_done, options):
        self.lanes.append(self._lane(on_done))
        return self.lanes[-1]

    def warmed(self):
        assert all(sorted(lane.submitted) == [0, 1] for lane in self.lanes)

    def close(self):
        assert all(lane._is_closed for lane in self.lanes)
        self.is_closed = True


class Preparer:
    """Writes a frame's first pixel everywhere; refuses 255."""

    def shape_for(self, pixel_format, height, width):
        return (height, width, 3)

    def place(self, image, pixel_format, item_out):
        if image[0, 0, 0] == 255:
            raise ModelError("too bright")
        item_out[...] = image[0, 0, 0]
        return Placement.stretch(6, 4, 6, 4)


class Decoder:
    """Returns the first value; refuses 13."""

    def decode(self, outputs, placement):
        value = outputs["y"].flat[0]
        if value == 13:
            raise IndexError("unlucky")
        return Tensors({"y": np.array([value])})


@pytest.fixture
def maker():
    maker = FrameMaker()
    yield maker
    maker.close()


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def model(engine):
    model = make_model(engine)
    yield model
    model.close()
    assert engine.is_closed


def make_model(engine, max_batch=4, decoder=None):
    [spec] = engine.info.inputs
    has_batch_axis = engine.info.batches or engine.info.fixed_batch is not None
    item = spec.shape[1 if has_batch_axis else 0 :]
    layout = InputLayout(
        "m", spec.name, spec.dtype, item, item, has_batch_axis, max_batch, engine.info.batches
    )
    model = LoadedModel(
        "m",
        3,
        engine,
        decoder or Decoder(),
        lambda: HostFiller(layout, Preparer()),
        BatchPolicy(max_batch),
        views={},
    )
    model.batcher = Batcher(model.policy, lambda *_: None, model.batch_key)
    return model


def run(model, engine, frames):
    """Run frames as one batch; return what they decode to."""
    [lane] = engine.lanes
    route = Route("door", "m")
    buffers = lane.acquire()
    model.submit(lane, buffers, [(route, frame) for frame in frames])
    [completed] = lane.poll()
    model.complete(lane, completed)
    decoded = model.decode(completed, completed.tag)
    lane.release(completed.buffers)
    model.finish()
    return decoded


def test_every_buffer_set_of_every_lane_is_run_before_the_first_frame(model, engine):
    model.open_lanes(2)
    assert [sorted(lane.submitted) for lane in engine.lanes] == [[0, 1], [0, 1]]
    for lane in engine.lanes:
        assert (lane.acquire() is not None, lane.poll()) == (True, [])
    assert model.statistics().frames == 0


def test_engine_that_fails_when_it_is_warmed_is_told():
    class NoRoom(Lane):
        def finish(self):
            super().finish()
            self._done[-1].error = OutOfDeviceMemoryError("no room")

    engine = Engine(lane=NoRoom)
    model = make_model(engine)
    with pytest.raises(OutOfDeviceMemoryError, match="no room"):
        model.open_lanes(1)
    model.close()


def test_engine_that_does_not_answer_when_it_is_warmed_is_told(monkeypatch):
    class Hanging(Lane):
        def finish(self):
            """Never come to an end by itself."""

        def close(self):
            self._batches = deque()
            super().close()

    monkeypatch.setattr("edgert.pipeline.warm_up.WARM_UP_TIMEOUT_S", 0.02)
    engine = Engine(lane=Hanging)
    model = make_model(engine)
    with pytest.raises(ModelError, match=r"Model m: the engine gave no answer in 0\.02 s"):
        model.open_lanes(1)
    model.close()


def test_batch_is_decoded_frame_by_frame_and_slots_are_free_once_it_is_prepared(model, engine, maker):
    model.open_lanes(1)
    frames = [maker.make(value=value) for value in (5, 6, 7)]
    outputs = run(model, engine, frames)
    assert [output.tensors["y"].tolist() for output in outputs] == [[5.0], [6.0], [7.0]]
    statistics = model.statistics()
    assert (statistics.version, statistics.batches, statistics.frames, statistics.failed) == (3, 1, 3, 0)
    assert statistics.queue.count == 3
    assert statistics.execute.count == statistics.decode.count == 1


def test_frame_that_cannot_be_decoded_costs_no_other_its_output(model, engine, maker):
    model.open_lanes(1)
    outputs = run(model, engine, [maker.make(value=value) for value in (5, 13, 7)])
    assert [type(output).__name__ for output in outputs] == ["Tensors", "ModelError", "Tensors"]
    assert str(outputs[1]) == "The outputs cannot be decoded: unlucky"
    assert model.statistics().failed == 1


def test_frame_that_cannot_be_prepared_costs_no_other_its_output(model, engine, maker):
    model.open_lanes(1)
    outputs = run(model, engine, [maker.make(value=value) for value in (5, 255, 7)])
    assert [type(output).__name__ for output in outputs] == ["Tensors", "ModelError", "Tensors"]
    assert str(outputs[1]) == "too bright"
    assert model.statistics().failed == 1


def test_batch_that_fails_in_the_engine_fails_every_frame_and_frees_its_slots(
    model, engine, maker, monkeypatch
):
    model.open_lanes(1)
    for buffers in engine.lanes[0]._sets:
        monkeypatch.setattr(buffers, "run", lambda: 1 / 0)
    outputs = run(model, engine, [maker.make(value=value) for value in (5, 6)])
    assert [str(output) for output in outputs] == ["The batch failed: division by zero"] * 2
    assert model.statistics().failed == 2


def test_outputs_that_cannot_be_read_fail_the_batch(model, engine, maker, monkeypatch):
    model.open_lanes(1)
    for buffers in engine.lanes[0]._sets:
        monkeypatch.setattr(buffers, "outputs", lambda: 1 / 0)
    outputs = run(model, engine, [maker.make(), maker.make()])
    assert [str(output) for output in outputs] == ["The outputs cannot be decoded: division by zero"] * 2
    assert model.statistics().failed == 2


def test_time_of_a_batch_counts_for_each_of_its_frames(model, engine, maker):
    model.open_lanes(1)
    run(model, engine, [maker.make(), maker.make(), maker.make()])
    run(model, engine, [maker.make()])
    statistics = model.statistics()
    assert statistics.frame_times.prepare_ms >= statistics.prepare.sum_ms
    assert statistics.frame_times.decode_ms >= statistics.decode.sum_ms
    assert statistics.frames == 4


def test_model_is_idle_once_all_that_was_submitted_is_finished(model, engine, maker):
    model.open_lanes(1)
    assert model.is_idle
    [lane] = engine.lanes
    lane.is_eager = False
    model.submit(lane, lane.acquire(), [(Route("door", "m"), maker.make())])
    assert not model.is_idle
    lane.finish()
    [completed] = lane.poll()
    model.complete(lane, completed)
    assert not model.is_idle
    model.decode(completed, completed.tag)
    lane.release(completed.buffers)
    model.finish()
    assert model.is_idle


def test_frames_of_different_shapes_have_different_keys(model, maker):
    small, large = FrameMaker(width=6), FrameMaker(width=8)
    frames = [small.make(), small.make(), large.make()]
    keys = [model.batch_key(frame) for frame in frames]
    for frame in frames:
        frame.slot.release()
    small.close()
    large.close()
    assert keys[0] == keys[1] != keys[2]


def test_engine_without_batch_axis_runs_one_frame(maker):
    inputs, outputs = TensorSpec("x", "float32", (4, 6, 3)), TensorSpec("y", "float32", (9, 6, 3))
    engine = Engine(info=EngineInfo("fake", (inputs,), (outputs,), batches=False))
    model = make_model(engine, max_batch=1)
    model.open_lanes(1)
    [output] = run(model, engine, [maker.make(value=8)])
    assert output.tensors["y"].tolist() == [8.0]
    assert engine.lanes[0]._sets[0].outputs()["y"].shape == (4, 6, 3)
    model.close()


def test_engine_of_a_fixed_batch_is_given_all_its_places(maker):
    specs = (TensorSpec("x", "float32", (4, 4, 6, 3)),), (TensorSpec("y", "float32", (4, 2)),)
    engine = Engine(info=EngineInfo("fake", *specs, batches=False))
    model = make_model(engine)
    model.open_lanes(1)
    outputs = run(model, engine, [maker.make(value=1), maker.make(value=2)])
    assert [output.tensors["y"].tolist() for output in outputs] == [[1.0], [2.0]]
    assert engine.lanes[0]._sets[0].outputs()["y"].shape[0] == 4
    model.close()


def test_every_size_at_which_batches_run_is_warmed():
    class Sized(Lane):
        def batch_sizes(self):
            return (1, 4)

        def submit(self, buffers, fill, tag, on_read=lambda: None):
            super().submit(buffers, fill, tag, on_read)
            sizes.append(len(buffers.outputs()["y"]))

    sizes = []
    engine = Engine(lane=Sized)
    engine.warmed = lambda: None
    model = make_model(engine)
    model.open_lanes(1)
    model.close()
    assert sizes == [1, 1, 4, 4]


class Floor(ScoreLimited, Decoder):
    """Returns the least score that it lets through."""

    _options = SsdOptions()

    def decode(self, outputs, placement):
        return Tensors({"least": np.array([self._options.score_min])})


def test_a_new_threshold_is_its_decoders(engine, maker):
    model = make_model(engine, decoder=Floor())
    model.open_lanes(1)
    model.set_score_min(0.75)
    [output] = run(model, engine, [maker.make(value=1)])
    assert output.tensors["least"].tolist() == [0.75]
    model.close()


def test_a_decoder_without_scores_has_no_threshold(model):
    with pytest.raises(ModelError, match="Model 'm' has no score_min: its decoder hands on plain tensors"):
        model.set_score_min(0.75)
