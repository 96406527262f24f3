"""Every pipeline file that ships, against a store with the demo's texts and stand-ins for its engines."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgert.capture.uri import parse_uri
from edgert.cli import main
from edgert.demo import store as demo_store
from edgert.demo.example import write_example
from edgert.demo.material import Material, ModelFiles
from edgert.device.opened import open_device
from edgert.models.model_config import ModelConfig
from edgert.pipeline.file import PipelineFile
from edgert.pipeline.open_model import open_model
from tests.fakes.store import Site

FILES = sorted((Path(__file__).parents[2] / "pipelines").glob("**/*.toml"))
MODELS = {"coco": demo_store.COCO, "face": demo_store.FACE, "classify": demo_store.CLASSIFY}
LABELS = {"coco": 90, "face": 1, "classify": 1000}


@pytest.fixture
def store(tmp_path):
    """Return a store whose engines have the demo's tensors and compute nothing."""
    site = Site(tmp_path)
    for name, model in MODELS.items():
        labels = "\n".join(f"label {index}" for index in range(LABELS[name]))
        site.add(name, config=model.config_pbtxt, settings=model.edgert_toml, labels=labels)
    for entry in map(PipelineFile.load(_any_file(site)).store.entry, MODELS):
        (entry.folder / "1" / "model.onnx").write_bytes(stand_in(entry.config))
    return site.store


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_is_right(path, store):
    file = PipelineFile.load(path, [f"store={store}"])
    assert [str(problem) for problem in file.problems()] == []
    assert file.warnings() == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_models_of_the_file_can_be_loaded_as_described(path, store):
    file = PipelineFile.load(path, [f"store={store}"])
    for name in file.model_names:
        plan = file.plan(name)
        model = open_model(plan, plan.entry.chosen_versions()[-1], open_device("host"), 1)
        lanes = len(model.lanes)
        model.close()
        assert lanes == plan.lanes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_is_checked_against_a_kept_example_as_the_readme_says(
    path, store, tmp_path, monkeypatch, capsys
):
    models = {name: _cached(store, name) for name in MODELS}
    clip = tmp_path / "clip.mp4"
    clip.touch()
    material = Material(**models, street_clip=clip, driver_clip=clip, pictures=(), left_out=())
    (tmp_path / "example").mkdir()
    file = write_example(tmp_path / "example", material, has_links=False)
    assert main(["check", str(file)]) == 0
    monkeypatch.chdir(path.parents[1])
    command = ["check", f"pipelines/{path.name}", "--set", f"store={tmp_path}/example/store"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "all right" in said.out
    assert said.err == ""


def _cached(store, name):
    return ModelFiles(store / name / "1" / "model.onnx", store / name / "labels.txt")


def test_the_files_show_every_kind_of_sink():
    sinks = {type(sink).__name__ for path in FILES for sink in PipelineFile.load(path).options.sinks.values()}
    assert sinks == {"MqttOptions", "LinesOptions", "TapOptions"}


def test_no_file_listens_beyond_this_machine():
    for path in FILES:
        options = PipelineFile.load(path).options
        assert options.http is None or options.http.host == "127.0.0.1"
        for source in options.sources.values():
            spec = parse_uri(source.uri)
            assert not spec.binds or spec.target.startswith(("tcp://127.0.0.1:", "ipc://"))


def stand_in(config: ModelConfig) -> bytes:
    """Return an engine with the tensors of a configuration, whose outputs are zeros."""
    tensor, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    [image] = config.inputs
    nodes = [
        onnx.helper.make_node("Shape", ["images"], ["batch"], end=1),
        *(node for output in config.outputs for node in _zeros(output)),
    ]
    outputs = [tensor(output.name, float32, ["batch", *output.dims]) for output in config.outputs]
    inputs = [tensor(image.name, float32, ["batch", *image.dims])]
    graph = onnx.helper.make_graph(nodes, "stand_in", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def _zeros(output):
    sides, shape = f"{output.name} sides", f"{output.name} shape"
    values = onnx.helper.make_tensor(sides, onnx.TensorProto.INT64, [len(output.dims)], output.dims)
    return (
        onnx.helper.make_node("Constant", [], [sides], value=values),
        onnx.helper.make_node("Concat", ["batch", sides], [shape], axis=0),
        onnx.helper.make_node("ConstantOfShape", [shape], [output.name]),
    )


def _any_file(site):
    return site.write('[sources.s]\nuri = "replay:noise"\nmodels = ["coco"]\n')
