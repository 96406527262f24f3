"""A lane of a model in Python does what every Lane does."""

from __future__ import annotations

import pytest

from edgert.models.model_config import TensorConfig
from tests.contract.test_lane_contract import Rig, TestLane
from tests.fakes.python_model import load_model, write_model

__all__ = ["TestLane"]

SAME = "class Model:\n    def execute(self, inputs): return {'y': inputs['x']}"


@pytest.fixture
def rig(tmp_path):
    x, y = (TensorConfig(name=name, dtype="float32", dims=(4,)) for name in "xy")
    engine = load_model(write_model(tmp_path, SAME), inputs=(x,), outputs=(y,))
    made = Rig(lambda on_done: engine.open_lane(2, on_done))
    yield made
    made.lane.close()
    engine.close()
