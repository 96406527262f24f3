"""`edgert build` with the real TensorRT-RTX, which builds engines on a machine without a GPU."""

from __future__ import annotations

import argparse
import json
import os
import signal

import cv2
import numpy as np
import pytest
from onnx import helper

from edgert.build.arguments import add_build
from edgert.build.command import run_build
from edgert.build.onnx_file import read_onnx
from edgert.build.progress import BuildProgress
from edgert.build.reduce import keep_best_anchors
from edgert.demo.fetch import FetchError
from edgert.demo.material import default_cache, prepare_material
from edgert.demo.store import write_store
from edgert.device.board import probe_cuda_driver
from edgert.errors import ConfigError, ModelError, OutOfDeviceMemoryError
from edgert.exit_codes import ExitCode
from edgert.models.manifest import read_manifest, sha256_of
from edgert.models.plan_header import read_plan_header
from edgert.models.store import ModelStore
from edgert.pipeline.model_plan import plan_model
from edgert.prepare.convert import Preparer
from tests.fakes.onnx_graphs import always, convolution, graph, quantized, quantized_convolution, run, save

pytestmark = pytest.mark.system
pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX: pip install 'edgert[rtx]'")

DETECTOR = always({"boxes": np.random.default_rng(0).random((40, 4)), "scores": np.ones((40, 3))})


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def build(tmp_path, store):
    """Return a function that builds a model under a name; what it returns is the report."""

    def built(model, *options, name="best", runtime="tensorrt_rtx"):
        path = save(tmp_path, model, f"{name}.onnx") if not hasattr(model, "exists") else model
        words = [path, "--store", store, "--name", name, "--runtime", runtime, *options]
        parser = argparse.ArgumentParser("edgert build")
        add_build(parser)
        assert run_build(parser.parse_args([str(word) for word in words])) == ExitCode.OK

    return built


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_engine_comes_into_a_new_store(build, store, tmp_path, capsys):
    build(convolution(), "--json")
    report = json.loads(capsys.readouterr().out)
    plan = store / "best" / "1" / "model.plan"
    assert report["file"] == str(plan)
    assert everything(store / "best") == [
        "1",
        "1/model.plan",
        "1/model.plan.manifest.json",
        "config.pbtxt",
        "edgert.toml",
    ]
    header, manifest = read_plan_header(plan), read_manifest(plan)
    assert header.family == manifest.runtime == "tensorrt_rtx"
    assert manifest.plan_sha256 == sha256_of(plan)
    assert (manifest.source.name, manifest.source.sha256) == ("best.onnx", sha256_of(tmp_path / "best.onnx"))
    assert str(tmp_path) not in (store / "best" / "1" / "model.plan.manifest.json").read_text()


def test_edgert_takes_what_was_built(build, store):
    from edgert.pipeline.open_model import check_model

    build(convolution(), "--batch", "1,8")
    entry = ModelStore(store).entry("best")
    plan = plan_model(entry, {}, entry.settings.path)
    assert plan.runtime == "tensorrt_rtx"
    [version] = entry.chosen_versions()
    check_model(plan, version)
    plan.check()


def test_each_batch_size_has_a_profile(build, store):
    build(convolution(), "--batch", "8,1")
    first, second = read_manifest(store / "best" / "1" / "model.plan").profiles
    assert [shapes["image"].maximum[0] for shapes in (first, second)] == [1, 8]
    assert second["image"].minimum == (1, 3, 16, 16)
    assert ModelStore(store).entry("best").config.max_batch_size == 8


def test_shapes_may_be_given_one_by_one(build, store):
    open_sides = graph(
        [helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3, "h", "w"]}, {"y": ["n", 3, "h", "w"]}
    )
    build(open_sides, "--shapes", "x=1x3x32x32:2x3x64x64:4x3x64x96")
    config = ModelStore(store).entry("best").config
    assert (config.max_batch_size, config.inputs[0].dims) == (4, (3, -1, -1))


def test_a_batch_size_may_have_an_engine_of_its_own(build, store):
    build(convolution(), "--engine-per-batch", "--batch", "1,4")
    models = ModelStore(store)
    assert models.names() == ("best-b1", "best-b4")
    for name, size in (("best-b1", 1), ("best-b4", 4)):
        config = models.entry(name).config
        assert config.max_batch_size == 0
        assert config.inputs[0].dims == (size, 3, 16, 16)
        assert read_manifest(store / name / "1" / "model.plan").profiles == ()


def test_an_engine_of_a_fixed_model_has_no_profile(build, store):
    build(convolution(batch=2))
    assert read_manifest(store / "best" / "1" / "model.plan").profiles == ()
    assert ModelStore(store).entry("best").config.inputs[0].dims == (2, 3, 16, 16)


def test_a_detector_gives_fewer_boxes(build, store):
    build(DETECTOR, "--top-k", "5", "--precision", "fp16", "--batch", "4")
    boxes, scores = ModelStore(store).entry("best").config.outputs
    assert (boxes.dims, scores.dims) == ((5, 4), (5, 3))
    assert (boxes.dtype, scores.dtype) == ("float32", "float32")


@pytest.mark.parametrize("head", ["v5", "v8"])
def test_a_yolo_gives_fewer_boxes(build, store, head):
    folder = store / "best"
    folder.mkdir(parents=True)
    settings = f'[engine]\nruntime = "tensorrt_rtx"\n[decode]\nkind = "yolo"\nhead = "{head}"\n'
    (folder / "edgert.toml").write_text(settings)
    output = np.ones((60, 9)) if head == "v5" else np.ones((9, 60))
    build(always({"output0": output}), "--top-k", "7")
    [tensor] = ModelStore(store).entry("best").config.outputs
    assert tensor.dims == ((7, 9) if head == "v5" else (9, 7))
    assert (folder / "edgert.toml").read_text() == settings


def test_it_is_built_for_the_capabilities_asked_for(build, store):
    build(convolution(), "--compute", "8.6,8.9")
    assert read_manifest(store / "best" / "1" / "model.plan").compute_capabilities == ("8.6", "8.9")
    with pytest.raises(ConfigError, match=r"--compute 9.9: expected one or more of 7.5,8.0,.*can build"):
        build(convolution(), "--compute", "9.9")


def test_a_next_version_leaves_the_rest_as_it_is(build, store):
    build(convolution(), "--batch", "4")
    config = store / "best" / "config.pbtxt"
    config.write_text(config.read_text() + "# mine\n")
    before = [(path, path.stat().st_mtime_ns) for path in sorted(store.rglob("*.*"))]
    build(convolution(seed=1), "--batch", "4", "--keep-previous", "1")
    assert [version.number for version in ModelStore(store).entry("best").versions()] == [1, 2]
    assert all((path.exists(), path.stat().st_mtime_ns) == (True, time) for path, time in before)
    build(convolution(seed=2), "--batch", "4", "--keep-previous", "1", "--force")
    assert [version.number for version in ModelStore(store).entry("best").versions()] == [2, 3]


def test_an_engine_that_does_not_fit_changes_nothing(build, store):
    build(DETECTOR, "--top-k", "5")
    before = everything(store)
    with pytest.raises(ModelError, match=r"output\[0\].dims: found \[5, 4\], expected \[40, 4\]"):
        build(DETECTOR)
    with pytest.raises(ModelError, match="max_batch_size: found 4, the engine would take 2 at most"):
        build(DETECTOR, "--top-k", "5", "--batch", "2")
    assert everything(store) == before


def test_an_operator_that_it_does_not_have_is_named(build, store):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Magic", ["r"], ["y"], "m", domain="acme"),
    ]
    model = graph(nodes, {"x": [1, 4]}, {"y": [1, 4]}, domains=["acme"])
    with pytest.raises(
        ModelError, match=r"best.onnx: TensorRT-RTX .* cannot parse it: node 1 'm' \(Magic\): "
    ):
        build(model)
    assert not store.exists()


def test_int32_biases_are_named_with_what_to_do(build):
    nodes = [
        helper.make_node("DequantizeLinear", ["bias", "scale", "zero"], ["b"], "dequantize"),
        helper.make_node("Add", ["x", "b"], ["y"]),
    ]
    constants = {
        "bias": np.ones(4, np.int32),
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int32),
    }
    model = graph(nodes, {"x": [1, 4]}, {"y": [1, 4]}, constants)
    with pytest.raises(ModelError, match=r"'dequantize' .*Int32.* Quantize without INT32 biases"):
        build(model, "--precision", "int8")


def test_precision_and_model_have_to_agree(build):
    with pytest.raises(ConfigError, match="--precision fp16, but the graph is quantized"):
        build(quantized(), "--precision", "fp16")
    with pytest.raises(ConfigError, match="--precision int8, but the graph is not quantized"):
        build(convolution(), "--precision", "int8")


def test_int8_convolutions_are_left_to_tensorrt(build, store):
    """Release 1.4 has none. One that has them builds the engine."""
    refusal = ""
    try:
        build(quantized_convolution(), "--precision", "int8")
    except ModelError as error:
        refusal = str(error)
    if refusal:
        assert "it has no INT8 kernel for one of the layers (TensorRT-RTX 1.4 has none for" in refusal
        assert "Build with --runtime tensorrt or a newer release" in refusal
        assert not store.exists()
    else:
        assert read_manifest(store / "best" / "1" / "model.plan").precision == "int8"


def test_a_workspace_that_is_too_small_is_named(build, store):
    wide = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["n", 1024]},
        {"y": ["n", 1024]},
        {"w": np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)},
    )
    with pytest.raises(
        OutOfDeviceMemoryError, match=r"with a workspace of 1 MiB. Give more with --workspace-mb"
    ):
        build(wide, "--workspace-mb", "1")
    assert not store.exists()
    build(wide, "--workspace-mb", "512")


def test_ctrl_c_ends_the_build_and_leaves_nothing(build, store, monkeypatch):
    begun = BuildProgress.phase_start

    def interrupted(progress, name, parent, steps):
        begun(progress, name, parent, steps)
        if parent is None:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(BuildProgress, "phase_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(convolution())
    assert not store.exists()


def test_without_a_gpu_it_says_that_nothing_was_compared(build, store, tmp_path, capsys):
    if probe_cuda_driver().version is not None:
        pytest.skip("there is a GPU here")
    cv2.imwrite(str(tmp_path / "picture.png"), np.zeros((8, 8, 3), np.uint8))
    build(convolution(), "--frames", tmp_path / "picture.png")
    said = capsys.readouterr().out
    assert "NOT compared with onnxruntime: this machine has no GPU to run the engine" in said
    assert f"to compare it later: edgert build {tmp_path}/best.onnx --compare best --store {store}" in said
    agreement = read_manifest(store / "best" / "1" / "model.plan").agreement
    assert agreement == {"made": False, "reason": "this machine has no GPU to run the engine"}
    assert ModelStore(store).entry("best").chosen_versions()[0].number == 1


@pytest.fixture(scope="module")
def material():
    try:
        found = prepare_material(default_cache(), print)
    except FetchError as error:
        pytest.skip(f"needs the demo's material: {error}")
    if found.coco is None:
        pytest.skip(f"needs the demo's detector: {found.left_out}")
    return found


def test_the_demos_detector_finds_the_same_with_100_boxes(material, store):
    """Where no more than 100 anchors reach `score_min`, in every picture here."""
    write_store(store, material, has_links=True)
    entry = ModelStore(store).entry("coco")
    plan = plan_model(entry, {}, entry.settings.path)
    file = read_onnx(material.coco.model)
    reduced = keep_best_anchors(file, 100, boxes="boxes", scores="scores")
    preparer = Preparer(plan.settings.prepare, (3, 300, 300), "float32")
    tensor, found = np.empty((1, 3, 300, 300), np.float32), 0
    for picture in material.pictures:
        placement = preparer.place(cv2.imread(str(picture)), "bgr8", tensor[0])
        all_of, best_of = (run(each.model, {"images": tensor}) for each in (file, reduced))
        assert best_of["boxes"].shape == (1, 100, 4)
        before, after = (decoded(plan, outputs, placement) for outputs in (all_of, best_of))
        assert before == after, picture.name
        found += len(before[1])
    assert found >= len(material.pictures) // 2


def decoded(plan, outputs, placement):
    from edgert.execute.engine import EngineInfo
    from edgert.models.tensor_spec import TensorSpec

    specs = tuple(TensorSpec(name, "float32", (-1, *array.shape[1:])) for name, array in outputs.items())
    loose = plan.open_decoder(EngineInfo("", (), specs, batches=True))
    result = loose.decode({name: array[0] for name, array in outputs.items()}, placement)
    return result.boxes_xyxy_px.tolist(), result.scores.tolist(), result.class_indices.tolist()


def test_the_demos_models_are_built(material, store, build, capsys):
    write_store(store, material, has_links=True)
    build(material.coco.model, "--like", "coco", "--top-k", "100", "--precision", "fp16", name="coco-rtx")
    build(material.face.model, "--like", "face", "--precision", "fp16", name="face-rtx")
    build(material.classify.model, "--like", "classify", name="classify-rtx")
    models = ModelStore(store)
    assert models.entry("coco-rtx").labels() == models.entry("coco").labels()
    for name in ("coco", "face", "classify"):
        entry = models.entry(f"{name}-rtx")
        plan_model(entry, {}, entry.settings.path).check()
    fp16, fp32 = (store / f"{name}-rtx" / "1" / "model.plan" for name in ("coco", "classify"))
    assert fp16.stat().st_size < 0.7 * material.coco.model.stat().st_size
    assert fp32.stat().st_size > material.classify.model.stat().st_size
    with pytest.raises(ConfigError, match=r"Model coco in .* is for onnxruntime, the engine would be for"):
        build(material.coco.model, name="coco")
