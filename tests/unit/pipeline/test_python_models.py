"""Models in Python out of a store, as the pipeline and the server load them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgert.device.opened import open_device
from edgert.errors import ModelError, RequestError
from edgert.models.store import ModelStore
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.model_plan import plan_model
from edgert.pipeline.open_model import check_model, load_engine
from tests.fakes.lane import Bell
from tests.fakes.python_model import request
from tests.fakes.store import EXACT, Site

STORE = ModelStore(Path(__file__).parents[2] / "fakes" / "python_store")
MEAN = """
class Model:
    def execute(self, inputs):
        return {"mean": inputs["image"].mean(axis=(2, 3))}
"""
MEAN_CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "image" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
output [ { name: "mean" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""


@pytest.fixture
def run():
    """Return a function that runs requests through a model of the store, all in one batch."""
    device = open_device("host")

    def run_batch(name, *asked, on_part=None):
        plan = plan_model(STORE.entry(name), {}, Path("pipeline.toml"))
        [version] = plan.entry.chosen_versions()
        bell = Bell()

        def fill(buffers):
            buffers.take(asked)
            buffers.on_part = on_part

        with (
            closing(load_engine(plan, version, device, 1)) as engine,
            closing(engine.open_lane(8, bell)) as lane,
        ):
            buffers = lane.acquire()
            lane.submit(buffers, fill, None)
            if (error := bell.next_from(lane).error) is not None:
                raise error
            return buffers.outputs() if buffers.answers is None else buffers.answers

    yield run_batch
    device.close()


def test_the_example_of_a_class_of_our_own_scales(run):
    asked = [request({"x": np.array([row], np.float32)}) for row in ([1, 2], [3, 4])]
    np.testing.assert_array_equal(run("scale", *asked)["y"], [[3, 6], [9, 12]])


def test_the_examples_own_refusal_is_the_clients_mistake(run):
    with pytest.raises(RequestError, match=r"^x must be finite$"):
        run("scale", request({"x": np.array([[np.nan]], np.float32)}))


def test_the_example_of_a_decoupled_model_repeats(run):
    parts = []
    inputs = {"count": np.array([3], np.int32), "text": np.array([b"again"], object)}
    run("repeat", request(inputs), on_part=lambda part: parts.append((part["index"][0], part["text"][0])))
    assert parts == [(0, b"again"), (1, b"again"), (2, b"again")]


def test_the_example_written_for_the_server_answers_each_request(run):
    one, two = np.full((2, 4), 5, np.float32), np.full((2, 4), 3, np.float32)
    good, bad = run(
        "add_sub", request({"INPUT0": one, "INPUT1": two}), request({"INPUT0": -one, "INPUT1": two})
    )
    assert good["SUM"].tolist() == [[8] * 4] * 2
    assert good["DIFFERENCE"].tolist() == [[2] * 4] * 2
    assert str(bad) == "INPUT0 must not be negative"


def plan_of(tmp_path, source):
    site = Site(tmp_path)
    folder = site.add("m", config=MEAN_CONFIG, settings=EXACT)
    (folder / "1" / "model.py").write_text(source)
    text = '[sources.door]\nuri = "replay:noise"\nmodels = ["m"]\n'
    return PipelineFile.load(site.write(text)).plan("m")


def test_a_pipeline_takes_a_model_in_python(tmp_path):
    plan = plan_of(tmp_path, MEAN)
    check_model(plan, plan.entry.chosen_versions()[0])


def test_a_fault_in_its_file_is_found_without_a_lane(tmp_path):
    plan = plan_of(tmp_path, "import no_such_thing")
    with pytest.raises(ModelError, match=r"m/1/model\.py:1: ModuleNotFoundError"):
        check_model(plan, plan.entry.chosen_versions()[0])


def test_a_version_without_the_file_is_told(tmp_path):
    plan = plan_of(tmp_path, MEAN)
    (tmp_path / "store" / "m" / "1" / "model.py").unlink()
    with pytest.raises(ModelError, match=r"looked for model\.py"):
        check_model(plan, plan.entry.chosen_versions()[0])
