"""Between which steps tensors stay on a device: of one GPU, of several, and what they read as arrays."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgert.device.handed import HandedTensor
from edgert.errors import UnknownModelError
from tests.fakes.several_gpus import WIDTH, serving_gpus
from tests.fakes.waiting import answer

GROUPS = {
    "here": "",
    "here too": "",
    "there": "instance_group [{ gpus: [1] }]",
    "there too": "instance_group [{ gpus: [1] }]",
    "everywhere": "instance_group [{ count: 1 kind: KIND_GPU gpus: [0, 1] }]",
}


@pytest.fixture
def gpus(tmp_path):
    with serving_gpus(tmp_path) as gpus:
        for name, groups in GROUPS.items():
            gpus.add(name, groups)
            gpus.load(name)
        yield gpus
    assert HandedTensor.live.count == 0


def handed(gpus):
    """Return the copies within the device of each GPU."""
    devices = [gpus.engines[name, gpu][0].device for gpu, name in enumerate(("here", "there"))]
    return [device.copies.copies["device_to_device"] for device in devices]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (("here", "here too"), [2, 0]),
        (("there", "there too"), [0, 2]),
        (("here", "there"), [0, 0]),
        (("there", "here"), [0, 0]),
        (("here", "everywhere"), [0, 0]),
        (("here", "here too", "there", "there too"), [2, 2]),
    ],
    ids=str,
)
def test_a_tensor_stays_where_both_steps_have_all_their_lanes(gpus, steps, expected):
    gpus.add_ensemble("chain", *steps)
    gpus.load("chain")
    values = np.full((3, WIDTH), 5, np.float32)
    np.testing.assert_array_equal(answer(gpus.infer, "chain", {"x": values})["y"], values)
    assert handed(gpus) == expected


def test_what_a_lane_of_two_gpus_makes_stays_if_it_was_made_where_it_is_read(gpus):
    gpus.add_ensemble("chain", "everywhere", "here")
    gpus.load("chain")
    values = np.full((1, WIDTH), 5, np.float32)
    for _ in range(20):
        np.testing.assert_array_equal(answer(gpus.infer, "chain", {"x": values})["y"], values)
    on_first, on_second = handed(gpus)
    assert on_first % 2 == on_second == 0


def test_a_version_tells_the_pool_of_the_one_device_on_which_it_reads_an_input(gpus):
    served = gpus.served
    assert served("here").pool_of("x") is served("here too").pool_of("x") is not None
    assert served("there").pool_of("x") is not served("here").pool_of("x")
    assert served("everywhere").pool_of("x") is None
    assert served("here").pool_of("other") is None


def test_values_of_shapes_are_read_on_the_host(gpus):
    here = gpus.served("here")
    shapes = msgspec.structs.replace(here.config.inputs[0], is_shape_tensor=True)
    here.config = msgspec.structs.replace(here.config, inputs=(shapes,))
    assert here.pool_of("x") is None


def test_an_ensemble_tells_the_pool_of_all_steps_that_read_its_input(gpus):
    gpus.add_ensemble("chain", "here", "there")
    gpus.load("chain")
    assert gpus.served("chain").pool_of("x") is gpus.served("here").pool_of("x")
    assert gpus.served("chain").pool_of("y") is None


def test_a_step_that_is_not_served_reads_nowhere(gpus, monkeypatch):
    gpus.add_ensemble("chain", "here")
    gpus.load("chain")

    def find(model, version):
        raise UnknownModelError(f"'{model}' is not found")

    chain = gpus.served("chain")
    monkeypatch.setattr(chain, "_find", find)
    assert chain.pool_of("x") is None
