"""What instance groups ask for against what there is."""

from __future__ import annotations

import pytest

from edgert.errors import ModelError
from edgert.models.model_config import InstanceGroup, ModelConfig
from edgert.pipeline.instance_groups import check_groups, place_lanes


def check(runtime="tensorrt", has_gpu=True, **group):
    return check_groups(ModelConfig(instance_groups=(InstanceGroup(**group),)), runtime, has_gpu=has_gpu)


def places(*groups, runtime="tensorrt", lanes=0):
    """Return group and GPU of each lane."""
    config = ModelConfig(instance_groups=tuple(InstanceGroup(**group) for group in groups))
    return [(place.group, place.gpu) for place in place_lanes(config, runtime, lanes)]


@pytest.mark.parametrize(
    "group", [{}, {"kind": "KIND_GPU", "gpus": (0, 3)}, {"kind": "KIND_AUTO", "count": 3}, {"gpus": (1,)}]
)
def test_what_can_be_had_needs_no_word(group):
    assert check(**group) == []


def test_an_engine_for_a_gpu_is_refused_on_the_cpu():
    with pytest.raises(ModelError, match=r"instance_group\[0\].kind: found KIND_CPU, expected KIND_GPU"):
        check(kind="KIND_CPU")


def test_a_group_has_its_count_of_lanes_on_each_of_its_gpus():
    assert places({"count": 2, "gpus": (0, 2)}) == [(0, 0), (0, 2), (0, 0), (0, 2)]
    assert places({"count": 1, "gpus": (1,)}, {"count": 2}) == [(0, 1), (1, 0), (1, 0)]


def test_what_no_group_places_is_on_the_first_gpu():
    assert places() == [(0, 0)]
    assert places({"count": 3, "kind": "KIND_GPU"}) == [(0, 0)] * 3


def test_a_number_of_lanes_of_its_own_takes_the_gpus_in_turn():
    assert places({"gpus": (0, 1)}, lanes=1) == [(0, 0)]
    assert places({"gpus": (0, 1)}, lanes=5) == [(0, 0), (0, 1), (0, 0), (0, 1), (0, 0)]
    assert places({}, {"gpus": (2, 3)}, lanes=4) == [(0, 0), (1, 2), (1, 3), (1, 2)]


def test_an_onnx_file_has_its_count_once_and_a_model_in_python_for_each_gpu():
    assert places({"count": 2, "gpus": (0, 1)}, runtime="onnxruntime") == [(0, 0)] * 2
    assert places({"gpus": (0, 1)}, runtime="python") == [(0, 0), (0, 1)]


def test_an_onnx_file_runs_on_the_cpu_and_that_is_said_to_who_asks_for_a_gpu():
    [warning] = check("onnxruntime", kind="KIND_GPU")
    assert "edgert runs ONNX files on the CPU" in warning
    assert check("onnxruntime", kind="KIND_CPU") == []


def test_a_model_in_python_hears_itself_what_it_was_given():
    assert check("python", kind="KIND_GPU", gpus=(1,)) == []


def test_an_engine_for_a_gpu_needs_a_service_that_has_one():
    with pytest.raises(ModelError, match=r"needs a GPU, and the service runs without.*SIGHUP"):
        check(has_gpu=False)
    assert check("onnxruntime", has_gpu=False) == []
