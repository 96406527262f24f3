from __future__ import annotations

from contextlib import closing

import numpy as np

from edgert.execute.noop_engine import NoopEngine
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.lane import Bell

X = TensorSpec("x", "uint8", (-1, 3, 4))
Y = TensorSpec("y", "float16", (-1, -1))


def run(engine, max_batch, shape):
    """Run a batch; return its input as `fill` saw it, and the outputs."""
    bell = Bell()
    seen = {}
    with closing(engine.open_lane(max_batch, bell)) as lane:
        lane.submit(lane.acquire(), lambda buffers: seen.update(buffers.inputs({"x": shape})), None)
        bell.wait()
        [completed] = lane.poll()
        assert completed.error is None
        return seen["x"], completed.buffers.outputs()["y"]


def test_outputs_are_zeros_of_the_models_type_and_shape():
    _, output = run(NoopEngine((X,), (Y,)), 5, (5, 3, 4))
    assert output.dtype == np.float16
    assert output.shape == (5, 1)
    assert not output.any()


def test_inputs_have_the_places_that_are_asked_for():
    tensor, _ = run(NoopEngine((X,), (Y,)), 5, (2, 3, 4))
    assert tensor.shape == (2, 3, 4)
    assert tensor.dtype == np.uint8


def test_a_model_without_batch_axis_keeps_its_shape():
    engine = NoopEngine((TensorSpec("x", "uint8", (3, 4)),), (TensorSpec("y", "float32", (2,)),))
    assert not engine.info.batches
    tensor, output = run(engine, 0, (3, 4))
    assert (tensor.shape, output.shape) == ((3, 4), (2,))


def test_says_what_it_is():
    info = NoopEngine((X,), (Y,)).info
    assert (info.runtime, info.batches, info.inputs, info.outputs) == ("noop", True, (X,), (Y,))


def test_two_lanes_share_nothing():
    engine = NoopEngine((X,), (Y,))
    tensors = [run(engine, 1, (1, 3, 4))[0] for _ in range(2)]
    assert not np.shares_memory(*tensors)
