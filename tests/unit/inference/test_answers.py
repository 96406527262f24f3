"""From a batch's outputs to responses: what outputs may look like, and that each request hears something."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.errors import DeviceLostError, ModelError
from edgert.execute.engine import Completed
from edgert.frames.request import InferRequest, KeptOutputs
from edgert.inference.answers import Answers
from edgert.inference.counts import Counts
from edgert.inference.signature import Signature
from edgert.models.model_config import ModelConfig, TensorConfig
from edgert.schedule.queued import Queued
from tests.fakes.waiting import Answered

IN = TensorConfig(name="IN", dtype="float32", dims=(2,))


class Buffers:
    """A buffer set with these outputs, of a lane of the host, or of a device."""

    def __init__(self, stream, **outputs):
        self.stream = stream
        self._outputs = outputs

    def outputs(self):
        return self._outputs


class Site:
    """Answers of a model with these outputs, and who hears of ends and lost devices."""

    def __init__(self, *outputs, max_batch=4):
        config = ModelConfig(max_batch_size=max_batch, inputs=(IN,), outputs=outputs)
        self.ended, self.lost = [], []
        self.counts = Counts("m", 1)
        signature = Signature("m", config)
        self.answers = Answers(
            "m", 1, config, signature, self.counts, lambda *ended: self.ended.append(ended), self.lost.append
        )

    def give(self, *rows, error=None, stream=None, kept=None, **outputs):
        """Answer requests of so many rows; return the error or outputs of each."""
        batch = [
            Queued(InferRequest(model="m", inputs={}, responder=Answered(), kept=kept), rows=count)
            for count in rows
        ]
        self.answers.give(batch, Completed(Buffers(stream, **outputs), batch, error, 0, 1, 2))
        finals = [queued.request.responder.final() for queued in batch]
        assert len(self.ended) == len(batch)
        return [final.error or final.outputs for final in finals]


def output(name="OUT", dims=(2,), reshape=None):
    return TensorConfig(name=name, dtype="float32", dims=dims, reshape=reshape)


def f32(*shape):
    return np.zeros(shape, np.float32)


def test_each_request_gets_its_own_rows():
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    first, second = Site(output()).give(1, 2, OUT=rows)
    np.testing.assert_array_equal(first["OUT"], rows[:1])
    np.testing.assert_array_equal(second["OUT"], rows[1:])


@pytest.mark.parametrize("array", [f32(5, 2), f32(1, 2), f32()], ids=["more", "fewer", "none"])
def test_an_output_that_has_other_rows_than_the_batch_is_an_error_of_every_request(array):
    for error in Site(output()).give(1, 2, OUT=array):
        assert isinstance(error, ModelError)
        assert f"output 'OUT' has shape {list(array.shape)} for a batch of 3" in str(error)
        assert "max_batch_size: 0" in str(error)


def test_a_device_runs_a_batch_at_a_larger_size_whose_other_rows_mean_nothing():
    rows = np.arange(16, dtype=np.float32).reshape(8, 2)
    first, second = Site(output()).give(1, 1, OUT=rows, stream="a device's")
    np.testing.assert_array_equal([first["OUT"][0], second["OUT"][0]], rows[:2])


def test_fewer_rows_than_the_batch_are_an_error_on_a_device_too():
    for error in Site(output()).give(1, 2, OUT=f32(2, 2), stream="a device's"):
        assert "has shape [2, 2] for a batch of 3" in str(error)


def test_outputs_that_stayed_on_the_device_are_not_in_the_response():
    site = Site(output(), output("MID"))
    kept = KeptOutputs({}, tensors={"MID": "a tensor"})
    [outputs] = site.give(1, OUT=f32(1, 2), MID=f32(1, 2), kept=kept)
    assert list(outputs) == ["OUT"]


def test_outputs_that_stayed_and_are_wanted_as_arrays_too_are_in_the_response():
    site = Site(output(), output("MID"))
    kept = KeptOutputs({}, ["MID"], {"MID": "a tensor"})
    [outputs] = site.give(1, OUT=f32(1, 2), MID=f32(1, 2), kept=kept)
    assert list(outputs) == ["OUT", "MID"]


def test_without_a_batch_axis_any_number_of_rows_is_right():
    [outputs] = Site(output(dims=(-1, 2)), max_batch=0).give(1, OUT=f32(5, 2))
    assert outputs["OUT"].shape == (5, 2)


def test_outputs_are_shown_in_the_shape_that_the_configuration_says():
    site = Site(output(dims=(3, 1, 1), reshape=(3,)))
    assert [one["OUT"].shape for one in site.give(1, 2, OUT=f32(3, 3))] == [(1, 3, 1, 1), (2, 3, 1, 1)]


def test_an_output_that_cannot_be_shown_so_is_an_error_and_not_the_end_of_the_lane():
    [error] = Site(output(dims=(3, 1, 1), reshape=(3,))).give(1, OUT=f32(1, 4))
    assert "output 'OUT' has shape [1, 4], config.pbtxt shows [1, 3, 1, 1]" in str(error)


def test_variable_sides_are_shown_as_they_come():
    [outputs] = Site(output(dims=(1, -1), reshape=(-1,))).give(1, OUT=f32(1, 7))
    assert outputs["OUT"].shape == (1, 1, 7)


def test_a_lost_device_is_told_once_for_the_batch():
    site = Site(output())
    lost = DeviceLostError("gone")
    assert site.give(1, 1, error=lost) == [lost, lost]
    assert site.lost == [lost]
    assert site.counts.snapshot().failures == {"BACKEND": 2}
