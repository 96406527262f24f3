"""Where an engine goes, and whether it fits there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgert.build.describe import EngineFacts
from edgert.build.options import BuildOptions
from edgert.build.target import (
    batch_note,
    check_fit,
    check_runtime,
    choose_runtime,
    find_target,
    model_name,
)
from edgert.decode.ssd import SsdOptions
from edgert.decode.tensors import TensorsOptions
from edgert.errors import ConfigError, ModelError
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.store import Site

PLAN = 'platform: "tensorrt_plan"\n'
RTX = '[engine]\nruntime = "tensorrt_rtx"\n'
SSD = f'{RTX}[decode]\nkind = "ssd"\n'


def facts(anchors=9, max_batch=4):
    return EngineFacts(
        (TensorSpec("images", "float32", (-1, 3, 8, 8)),),
        (
            TensorSpec("boxes", "float32", (-1, anchors, 4)),
            TensorSpec("scores", "float32", (-1, anchors, 2)),
        ),
        max_batch,
    )


def options(site, name="coco", runtime="tensorrt_rtx", **stated):
    return BuildOptions(model=Path("m.onnx"), store=site.store, name=name, runtime=runtime, **stated)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_model_that_is_there_is_found(site):
    site.add("coco", config=f"{PLAN}max_batch_size: 8\n", settings=SSD)
    target = find_target(site.store, "coco", "")
    assert target.entry.name == "coco"
    assert target.default_batch == 8
    assert isinstance(target.decode, SsdOptions)


def test_a_new_model_takes_after_another(site):
    site.add("coco", b"onnx", config="max_batch_size: 2\n", settings='[decode]\nkind = "ssd"\n')
    target = find_target(site.store, "coco-rtx", "coco")
    assert target.entry is None
    assert target.default_batch == 2
    assert isinstance(target.decode, SsdOptions)


def test_nothing_is_known_of_a_new_model(site):
    for store in (site.store, site.folder / "absent"):
        target = find_target(store, "coco", "")
        assert (target.entry, target.default_batch) == (None, 4)
        assert isinstance(target.decode, TensorsOptions)


def test_the_model_to_be_like_has_to_be_there(site):
    with pytest.raises(ModelError, match="Model 'coco' is not in the store"):
        find_target(site.store, "new", "coco")


def test_the_file_has_the_name_that_the_configuration_says(site):
    site.add("plain", config=PLAN)
    site.add("named", config=f'{PLAN}default_model_filename: "best.plan"\n')
    table = '[ { key: "8.7" value: "orin.plan" } ]'
    site.add("many", config=f"{PLAN}cc_model_filenames {table}\n")
    names = {name: find_target(site.store, name, "") for name in ("plain", "named", "many", "absent")}
    assert {name: target.plan_name("8.7") for name, target in names.items()} == {
        "plain": "model.plan",
        "named": "best.plan",
        "many": "orin.plan",
        "absent": "model.plan",
    }
    assert names["many"].plan_name("7.2") == names["many"].plan_name(None) == "model.plan"


def test_a_model_is_named_after_its_folder_in_the_store_or_its_file(site):
    folder = site.add("coco", b"onnx")
    assert model_name(folder / "1" / "model.onnx", site.store) == "coco"
    assert model_name(Path("detectors/best.onnx"), site.store) == "best"
    assert model_name(folder / "1" / "model.onnx", site.folder / "other") == "model"


def test_the_runtime_is_the_models_or_what_is_installed(site):
    site.add("coco", config=PLAN, settings=RTX)
    entry = find_target(site.store, "coco", "").entry
    assert choose_runtime(entry, lambda _: None) == "tensorrt_rtx"
    assert choose_runtime(None, lambda module: module in ("tensorrt", "tensorrt_rtx") or None) == "tensorrt"
    assert choose_runtime(None, lambda module: module == "tensorrt_rtx" or None) == "tensorrt_rtx"
    with pytest.raises(ConfigError, match="Neither TensorRT nor TensorRT-RTX is installed"):
        choose_runtime(None, lambda _: None)


@pytest.mark.parametrize(
    ("config", "settings", "model", "runtime", "message"),
    [
        (
            'platform: "onnxruntime_onnx"\n',
            "",
            b"",
            "tensorrt_rtx",
            "is for onnxruntime, the engine would be for",
        ),
        ("", "", b"onnx", "tensorrt_rtx", r"--name coco-rtx --like coco"),
        (PLAN, "", b"", "tensorrt_rtx", "is for tensorrt, the engine would be for tensorrt_rtx"),
        ("", RTX, b"", "tensorrt", r"is for tensorrt_rtx, .*--name coco-trt --like coco"),
        ("", '[engine]\nruntime = "noop"\n', b"", "tensorrt", "is for noop"),
        ("", '[engine]\nruntime = "tensorrt_lean"\n', b"", "tensorrt", "give --version-compatible"),
    ],
)
def test_a_model_for_another_runtime_is_left_alone(site, config, settings, model, runtime, message):
    site.add("coco", model, config=config, settings=settings)
    with pytest.raises(ConfigError, match=message):
        check_runtime(find_target(site.store, "coco", "").entry, options(site, runtime=runtime))


@pytest.mark.parametrize(
    ("config", "settings", "runtime", "compatible"),
    [
        (PLAN, "", "tensorrt", False),
        (PLAN, RTX, "tensorrt_rtx", False),
        ("max_batch_size: 4\n", None, "tensorrt_rtx", False),
        (PLAN, "", "tensorrt_lean", True),
        ("", '[engine]\nruntime = "tensorrt_lean"\n', "tensorrt", True),
    ],
)
def test_a_model_for_the_same_runtime_is_taken(site, config, settings, runtime, compatible):
    (site.add("coco", config=config, settings=settings) / "1").rmdir()
    entry = find_target(site.store, "coco", "").entry
    check_runtime(entry, options(site, runtime=runtime, version_compatible=compatible))
    check_runtime(None, options(site, runtime=runtime))


@pytest.mark.parametrize(
    ("config", "settings", "engine", "message"),
    [
        (
            "max_batch_size: 8\n",
            RTX,
            facts(),
            "field max_batch_size: found 8, the engine would take 4 at most",
        ),
        (
            'max_batch_size: 4\noutput [ { name: "boxes" dims: [ 7, 4 ] } ]\n',
            RTX,
            facts(),
            r"output\[0\].dims: found \[7, 4\], expected \[9, 4\]",
        ),
        (
            "",
            f'{RTX}[decode]\nkind = "classify"\n',
            facts(),
            r"edgert.toml: \[decode\]: The engine has 2 outputs",
        ),
        ("", f'{SSD}[labels]\nfile = "labels.txt"\n', facts(), "has 3 labels, the engine's output 2 classes"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused_before_it_is_built(site, config, settings, engine, message):
    site.add("coco", config=config, settings=settings, labels="a\nb\nc\n")
    with pytest.raises(ModelError, match=message):
        check_fit(find_target(site.store, "coco", ""), options(site), engine)


def test_an_engine_that_fits_passes(site):
    site.add("coco", config=f"{PLAN}max_batch_size: 4\n", settings=SSD)
    check_fit(find_target(site.store, "coco", ""), options(site), facts())
    check_fit(find_target(site.store, "absent", ""), options(site), facts())


@pytest.mark.parametrize(
    ("config", "max_batch", "served"),
    [
        ("max_batch_size: 4\n", 8, 4),
        ("max_batch_size: 4\n", 4, None),
        ("", 8, 4),
        ("", 4, None),
        ("max_batch_size: 0\n", 8, None),
    ],
)
def test_batches_that_the_service_never_makes_are_said(site, config, max_batch, served):
    site.add("coco", config=PLAN + config, settings=SSD)
    note = batch_note(find_target(site.store, "coco", ""), options(site), facts(max_batch=max_batch))
    if served is None:
        assert note == ""
    else:
        file = site.store / "coco" / "config.pbtxt"
        assert note == (
            f"the engine takes batches up to {max_batch}, the service makes none over {served}: raise "
            f"max_batch_size in {file}"
        )


def test_a_new_model_is_described_as_it_was_built(site):
    assert batch_note(find_target(site.store, "new", ""), options(site), facts(max_batch=64)) == ""
