"""What a plan says of a model's lanes, for frames and for requests."""

from __future__ import annotations

import pytest

from edgert.models.store import ModelStore
from edgert.pipeline.model_plan import plan_model


@pytest.fixture
def plan_of(tmp_path):
    def plan(groups, settings=""):
        (tmp_path / "m" / "1").mkdir(parents=True)
        (tmp_path / "m" / "config.pbtxt").write_text(f'platform: "tensorrt_plan" {groups}')
        (tmp_path / "m" / "edgert.toml").write_text(f'[engine]\nruntime = "tensorrt"\n{settings}')
        entry = ModelStore(tmp_path).entry("m")
        return plan_model(entry, {}, entry.settings.path)

    return plan


def test_frames_have_their_lanes_on_one_gpu_and_requests_on_each(plan_of):
    plan = plan_of("instance_group [{ count: 2 gpus: [0, 1] }, { gpus: [1] }]")
    assert plan.lanes == 3
    assert [(place.group, place.gpu) for place in plan.places] == [(0, 0), (0, 1), (0, 0), (0, 1), (1, 1)]


def test_lanes_of_edgert_toml_go_before_those_of_the_groups(plan_of):
    plan = plan_of("instance_group [{ count: 2 gpus: [0, 1] }]", "lanes = 3")
    assert (plan.lanes, [place.gpu for place in plan.places]) == (3, [0, 1, 0])


@pytest.mark.parametrize(("gpus", "is_told"), [("", False), ("gpus: [0]", False), ("gpus: [0, 1]", True)])
def test_gpus_that_frames_do_not_use_are_a_warning(plan_of, gpus, is_told):
    warnings = plan_of(f"instance_group [{{ {gpus} }}]").warnings()
    told = "field instance_group.gpus is followed for requests only, not for frames"
    assert any(text.endswith(told) for text in warnings) == is_told
