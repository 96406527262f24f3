import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgert.calibrate import sensitivity as sensitivity_module
from edgert.calibrate.quantize.draft import Fork
from edgert.calibrate.quantize.placement import Placement, place
from edgert.calibrate.quantize.quantizer import Quantizer
from edgert.calibrate.sensitivity import Sensitivity, measure_layers, weighted_error
from edgert.errors import ModelError
from edgert.stats import LiveCount
from tests.unit.calibrate.tiny_models import inverted_residual, random, read, run

NAME = Path("model.onnx")
PICTURES = [random(3, 5, 5, seed=seed) for seed in range(3)]


@pytest.fixture
def source(tmp_path):
    return read(tmp_path, inverted_residual())


def errors_of(source, *models, pictures=PICTURES):
    """Return the error of each model, all of them with the output `out`."""
    sensitivity = Sensitivity(NAME, source.proto, pictures)
    return [error for model in models for error in sensitivity.errors_of(Fork(model, ({"out": "out"},)))]


def measured(source, amax=None, known=None, on_layer=lambda: None):
    placement = place(source.graph())
    amax = dict.fromkeys(placement.tensors, 12.0) | (amax or {})
    known = {} if known is None else known
    sensitivity = Sensitivity(NAME, source.proto, PICTURES)
    measure_layers(sensitivity, Quantizer(source, {}), placement, amax, known, on_layer)
    return known


def test_an_equal_model_has_no_error(source):
    assert errors_of(source, source.proto) == [0]


def test_without_frames_there_is_no_error(source):
    assert errors_of(source, source.proto, pictures=[]) == [0]


def test_every_layer_is_measured_in_their_order(source):
    told = []
    errors = measured(source, on_layer=lambda: told.append(1))
    assert list(errors) == ["stem", "expand", "depthwise", "project", "head"]
    assert len(told) == 5
    assert all(0 < error < 0.1 for error in errors.values())


@pytest.mark.parametrize(("tensor", "layer"), [("image", "stem"), ("clipped", "depthwise"), ("sum", "head")])
def test_a_layer_whose_input_is_spoilt_is_the_worst(source, tensor, layer):
    errors = measured(source, {tensor: 0.01})
    assert max(errors, key=errors.__getitem__) == layer
    assert errors[layer] > 3 * sorted(errors.values())[-2]


def test_a_residual_that_is_spoilt_is_the_fault_of_the_layer_that_brings_it(source):
    errors = measured(source, {"block": 0.01})
    assert sorted(errors, key=errors.__getitem__)[-2:] in (["expand", "project"], ["project", "expand"])
    assert errors["project"] > 0.03


def test_the_error_is_that_of_the_outputs(source):
    placement = place(source.graph()).only("head")
    alone = Quantizer(source, {}).quantize(placement, {"sum": 0.5})
    expected = []
    for picture in PICTURES:
        [old], [new] = (run(proto, {"image": picture[None]}) for proto in (source.proto, alone))
        weights = np.maximum(np.abs(old), np.abs(new))
        expected.append((weights * (old - new) ** 2).sum() / (np.abs(old) ** 3).sum())
    [actual] = errors_of(source, alone)
    assert actual == pytest.approx(np.mean(expected), rel=1e-3)


@pytest.mark.parametrize("layers_a_model", [1, 2, 5, 16])
def test_layers_measured_together_do_not_touch_each_other(source, monkeypatch, layers_a_model):
    monkeypatch.setattr(sensitivity_module, "LAYERS_A_MODEL", layers_a_model)
    placement = place(source.graph())
    amax, quantizer = dict.fromkeys(placement.tensors, 4.0), Quantizer(source, {})
    alone = errors_of(source, *(quantizer.quantize(placement.only(each), amax) for each in placement.layers))
    together = measured(source, amax)
    assert list(together) == list(placement.layers)
    assert list(together.values()) == pytest.approx(alone, rel=1e-4)


def test_what_is_known_is_not_measured_again(source):
    told, known = [], {"expand": -1.0, "head": -2.0}
    measured(source, known=known, on_layer=lambda: told.append(1))
    assert (known["expand"], known["head"]) == (-1, -2)
    assert set(known) == {"stem", "expand", "depthwise", "project", "head"}
    assert len(told) == 5


def test_a_stop_keeps_what_is_measured_and_ends_the_workers(source):
    known = {}

    def stop():
        if len(known) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(source, known=known, on_layer=stop)
    assert list(known) == ["stem", "expand"]
    assert LiveCount.snapshot() == {}


def test_after_a_stop_nothing_more_is_begun(monkeypatch):
    begun, is_stopping = [], threading.Event()

    class Workers(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_stopping.set()
            super().shutdown(wait=wait)

    class Layers:
        def fork(self, placements, _amax):
            return [placement.layers[0] for placement in placements]

        def errors_of(self, layers):
            begun.extend(layers)
            if "a" not in layers:
                is_stopping.wait()
            return [0.0] * len(layers)

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(sensitivity_module, "ThreadPoolExecutor", Workers)
    monkeypatch.setattr(sensitivity_module, "LAYERS_A_MODEL", 1)
    placement = Placement(tuple("abcdefgh"), {})
    with pytest.raises(KeyboardInterrupt):
        measure_layers(Layers(), Layers(), placement, {}, {}, stop)
    assert "a" in begun
    assert len(begun) <= 1 + sensitivity_module.AT_ONCE


def test_a_model_that_cannot_be_run_is_told(source):
    broken = type(source.proto)()
    broken.CopyFrom(source.proto)
    del broken.opset_import[:]
    broken.opset_import.append(helper.make_opsetid("", 999))
    with pytest.raises(ModelError, match=r"model\.onnx: "):
        errors_of(source, broken)


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0),
        ([3.0, 4.0], [3.0, 9.0], 25 * 9 / 91),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, 0.0], [0.0, 0.1], 1),
        ([0.0, 2.0], [1.0, 2.0], 1 / 8),  # a large value where there was none
        ([3.0, 4.0], [3.0, 4.0, 5.0], 1),
        ([], [], 0),
        ([3.0, 4.0, -np.inf, np.nan], [3.0, 4.0, -np.inf, np.nan], 0),
        ([3.0, 4.0], [3.0, np.nan], np.inf),
        ([3.0, 4.0], [3.0, np.inf], np.inf),
    ],
)
def test_the_weighted_error(expected, actual, error):
    found = weighted_error(np.array(expected, np.float32), np.array(actual, np.float32))
    assert found == pytest.approx(error)


def test_whole_numbers_are_compared_too():
    assert weighted_error(np.array([200, 3], np.uint8), np.array([201, 3], np.uint8)) == pytest.approx(
        201 / (200**3 + 27)
    )
