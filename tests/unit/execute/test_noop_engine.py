from __future__ import annotations

import numpy as np

from edgert.execute.noop_engine import NoopEngine
from edgert.models.tensor_spec import TensorSpec

X = TensorSpec("x", "uint8", (-1, 3, 4))
Y = TensorSpec("y", "float16", (-1, -1))


def run(engine, max_batch):
    lane = engine.open_lane(max_batch, lambda: None)
    lane.submit(lane.acquire(), lambda buffers: buffers.inputs({"x": (max_batch, 3, 4)}), None)
    [completed] = lane.poll()
    lane.close()
    return completed.buffers


def test_outputs_are_zeros_of_the_models_type_and_shape():
    output = run(NoopEngine((X,), (Y,)), 5).outputs()["y"]
    assert output.dtype == np.float16
    assert output.shape == (5, 1)
    assert not output.any()


def test_inputs_have_room_for_a_whole_batch():
    inputs = run(NoopEngine((X,), (Y,)), 5).inputs({"x": (2, 3, 4)})
    assert inputs["x"].shape == (5, 3, 4)
    assert inputs["x"].dtype == np.uint8


def test_a_model_without_batch_axis_keeps_its_shape():
    engine = NoopEngine((TensorSpec("x", "uint8", (3, 4)),), (TensorSpec("y", "float32", (2,)),))
    assert not engine.info.batches
    assert run(engine, 0).outputs()["y"].shape == (2,)


def test_says_what_it_is():
    info = NoopEngine((X,), (Y,)).info
    assert (info.runtime, info.batches, info.inputs, info.outputs) == ("noop", True, (X,), (Y,))


def test_done_is_called_when_the_batch_can_be_polled():
    seen = []
    lane = NoopEngine((X,), (Y,)).open_lane(1, lambda: seen.append([done.tag for done in lane.poll()]))
    lane.submit(lane.acquire(), lambda _: None, "tag")
    assert seen == [["tag"]]


def test_two_lanes_share_nothing():
    engine = NoopEngine((X,), (Y,))
    first, second = (engine.open_lane(1, lambda: None) for _ in range(2))
    assert not np.shares_memory(first.acquire().inputs({})["x"], second.acquire().inputs({})["x"])
    engine.close()
