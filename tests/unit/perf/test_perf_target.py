"""What the command line names."""

from __future__ import annotations

import pytest

from edgert.device.opened import open_device
from edgert.errors import ConfigError, ModelError
from edgert.execute.engine import EngineInfo, LaneOptions
from edgert.models.tensor_spec import TensorSpec
from edgert.perf.options import PerfOptions
from edgert.perf.target import find_target, input_shapes
from tests.fakes import store
from tests.fakes.store import Site


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def find(model, **options):
    return find_target(PerfOptions(model=str(model), **options))


def test_a_model_by_name_by_folder_and_its_file(site):
    config = "instance_group [ { count: 3 } ]\n"
    folder = site.add("mean", store.mean_model(), version=2, config=config)
    by_name, by_folder, by_file = (
        find("mean", store=site.store),
        find(folder),
        find(folder / "2" / "model.onnx"),
    )
    assert (by_name.title, by_name.lanes, by_name.runtime) == ("mean/2", 3, "onnxruntime")
    assert (by_folder.title, by_folder.lanes) == ("mean/2", 3)
    assert (by_file.title, by_file.lanes, by_file.runtime) == ("model.onnx", 1, "onnxruntime")
    assert by_name.file == by_folder.file == by_file.file == folder / "2" / "model.onnx"
    assert {target.device for target in (by_name, by_folder, by_file)} == {"host"}
    assert by_folder.prepare.fit == "stretch"


@pytest.mark.parametrize("as_file", [False, True])
def test_a_target_loads_its_engine(site, as_file):
    folder = site.add("mean", store.mean_model())
    target = find(folder / "1" / "model.onnx" if as_file else folder)
    device = open_device("host")
    engine = target.load(device, 1)
    assert [spec.name for spec in engine.info.inputs] == ["image"]
    engine.close()
    device.close()


def test_the_newest_version_is_measured(site):
    for version in (1, 2, 10):
        folder = site.add("mean", store.mean_model(), version=version)
    assert find(folder).title == "mean/10"


def test_a_plan_needs_a_gpu(site):
    folder = site.add("net", settings="")
    plan = folder / "1" / "model.plan"
    plan.write_bytes(b"ftrt" + bytes(28))
    target = find(plan)
    assert (target.runtime, target.device) == ("tensorrt", "cuda")
    assert find(plan, runtime="tensorrt_lean").runtime == "tensorrt_lean"


def test_what_is_not_there(site, tmp_path):
    site.add_noop()
    with pytest.raises(ConfigError, match="no such folder or file"):
        find(tmp_path / "nothing")
    with pytest.raises(ModelError, match="'nope' is not in the store"):
        find("nope", store=site.store)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match="not an engine file that edgert knows"):
        find(tmp_path / "notes.txt")


def test_a_runtime_that_cannot_load_the_file(site):
    folder = site.add("mean", store.mean_model())
    with pytest.raises(ConfigError, match=r"--runtime tensorrt loads .plan or .engine or .trt files"):
        find(folder / "1" / "model.onnx", runtime="tensorrt")
    with pytest.raises(ConfigError, match="--runtime noop"):
        find(folder / "1" / "model.onnx", runtime="noop")


def test_what_was_asked_for_goes_before_what_the_model_says(site):
    settings = "[engine]\nthreads = 3\ngraphs = 0\npriority = 2\n"
    folder = site.add("mean", store.mean_model(), settings=settings)
    assert find(folder).engine.threads == 3
    assert find(folder, threads=1).engine.threads == 1
    target, asked = find(folder), PerfOptions(model="m")
    assert target.lane_options(asked) == LaneOptions(graphs=0, priority=2, is_timed=True)
    assert target.lane_options(PerfOptions(model="m", graphs=True)).graphs == 8
    assert find(site.add("x", store.mean_model())).lane_options(asked).graphs == 8
    assert target.lane_options(PerfOptions(model="m", device_times=False)).is_timed is False


def test_the_configuration_narrows_and_reshapes_inputs(site):
    config = """max_batch_size: 4
input [ { name: "row" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] reshape: { shape: [ 192 ] } } ]
output [ { name: "level" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } } ]
"""
    folder = site.add("flat", store.flat_model(), config=config)
    row, level = TensorSpec("row", "float32", (-1, 192)), TensorSpec("level", "float32", (-1,))
    shapes = input_shapes(find(folder), EngineInfo("onnxruntime", (row,), (level,), batches=True))
    assert shapes.viewed == {"row": (3, 8, 8)}
    assert shapes.narrowed == {"row": (-1, 192)}


def test_the_configuration_closes_sides(site):
    config = """max_batch_size: 4
input [ { name: "image" data_type: TYPE_FP32 dims: [ 3, 20, 30 ] } ]
output [ { name: "mean" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
    folder = site.add("mean", store.mean_model(side="side"), config=config)
    info = EngineInfo(
        "onnxruntime",
        (TensorSpec("image", "float32", (-1, 3, -1, -1)),),
        (TensorSpec("mean", "float32", (-1, 3)),),
        batches=True,
    )
    assert input_shapes(find(folder), info).narrowed == {"image": (-1, 3, 20, 30)}
    assert input_shapes(find(folder / "1" / "model.onnx"), info).narrowed == {}
