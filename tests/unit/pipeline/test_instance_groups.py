"""What instance groups ask for against what there is."""

from __future__ import annotations

import pytest

from edgert.errors import ModelError
from edgert.models.model_config import InstanceGroup, ModelConfig
from edgert.pipeline.instance_groups import check_groups


def check(runtime="tensorrt", has_gpu=True, **group):
    return check_groups(ModelConfig(instance_groups=(InstanceGroup(**group),)), runtime, has_gpu=has_gpu)


@pytest.mark.parametrize("group", [{}, {"kind": "KIND_GPU", "gpus": (0,)}, {"kind": "KIND_AUTO", "count": 3}])
def test_what_can_be_had_needs_no_word(group):
    assert check(**group) == []


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ({"kind": "KIND_CPU"}, r"instance_group\[0\].kind: found KIND_CPU, expected KIND_GPU"),
        ({"gpus": (1,)}, r"gpus: found 1, expected 0: .*many GPUs are not offered"),
        ({"gpus": (2, 3)}, r"gpus: found 2, 3, expected 0"),
    ],
)
def test_what_cannot_be_had_is_refused(group, told):
    with pytest.raises(ModelError, match=told):
        check(**group)


def test_of_several_gpus_the_first_is_used_and_that_is_said():
    [warning] = check(gpus=(0, 1))
    assert "of 0, 1 only 0 is used" in warning


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
