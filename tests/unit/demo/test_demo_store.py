from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from edgert.decode.factory import DecodeOptions, open_decoder
from edgert.demo.material import Material, ModelFiles
from edgert.demo.store import write_store
from edgert.models.store import ModelStore
from edgert.models.tensor_spec import TensorSpec
from edgert.prepare.options import PrepareOptions


@pytest.fixture
def material(tmp_path):
    cache = tmp_path / "cache"
    models = {}
    for name in ("coco", "face", "classify"):
        (cache / name).mkdir(parents=True)
        models[name] = ModelFiles(cache / name / "model.onnx", cache / name / "labels.txt")
        models[name].model.write_text(f"model {name}")
        models[name].labels.write_text(f"{name} label\n")
    return Material(**models, street_clip=Path(), driver_clip=Path(), pictures=(), left_out=())


def test_every_model_is_whole(tmp_path, material):
    assert write_store(tmp_path / "store", material, has_links=True) == ("coco", "face", "classify")
    store = ModelStore(tmp_path / "store")
    assert store.names() == ("classify", "coco", "face")
    for name in store.names():
        entry = store.entry(name)
        (version,) = entry.chosen_versions()
        assert entry.warnings == ()
        assert entry.engine_file(version).read_text() == f"model {name}"
        assert entry.labels() == (f"{name} label",)
        assert entry.config.max_batch_size == 4
        assert entry.settings.section("prepare", PrepareOptions)


LABELS = {"coco": 90, "face": 1, "classify": 1000}


@pytest.mark.parametrize("name", LABELS)
def test_the_decoder_fits_the_outputs(tmp_path, material, name):
    write_store(tmp_path, material, has_links=True)
    entry = ModelStore(tmp_path).entry(name)
    options = entry.settings.section("decode", DecodeOptions)
    outputs = tuple(TensorSpec(one.name, one.dtype, (-1, *one.dims)) for one in entry.config.outputs)
    assert open_decoder(options, ["label"] * LABELS[name], outputs)


def test_preparation_gives_the_range_each_network_learnt_with(tmp_path, material):
    write_store(tmp_path, material, has_links=True)
    store = ModelStore(tmp_path)
    ranges = {}
    for name in store.names():
        options = store.entry(name).settings.section("prepare", PrepareOptions)
        ranges[name] = [round((pixel - options.mean) * options.scale, 6) for pixel in (0, 255)]
    assert ranges == {"coco": [-1, 1], "face": [0, 255], "classify": [-0.992188, 1]}


def test_models_are_links_into_the_cache(tmp_path, material):
    write_store(tmp_path / "store", material, has_links=True)
    assert (tmp_path / "store" / "coco" / "1" / "model.onnx").samefile(material.coco.model)


def test_copies_may_be_changed_without_harm_to_the_cache(tmp_path, material):
    write_store(tmp_path / "store", material, has_links=False)
    copy = tmp_path / "store" / "coco" / "1" / "model.onnx"
    copy.write_text("changed")
    assert material.coco.model.read_text() == "model coco"


def test_models_are_copied_where_links_are_refused(tmp_path, material, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    write_store(tmp_path / "store", material, has_links=True)
    copy = tmp_path / "store" / "coco" / "1" / "model.onnx"
    assert copy.read_text() == "model coco"
    assert not copy.samefile(material.coco.model)


def test_writing_again_replaces_what_was_there(tmp_path, material):
    write_store(tmp_path / "store", material, has_links=True)
    (tmp_path / "store" / "face" / "edgert.toml").write_text("broken")
    material.face.model.unlink()
    material.face.model.write_text("newer")
    write_store(tmp_path / "store", material, has_links=True)
    assert "centerface" in (tmp_path / "store" / "face" / "edgert.toml").read_text()
    assert (tmp_path / "store" / "face" / "1" / "model.onnx").read_text() == "newer"


def test_a_left_out_model_is_not_written(tmp_path, material):
    without = msgspec.structs.replace(material, coco=None)
    assert write_store(tmp_path / "store", without, has_links=True) == ("face", "classify")
    assert not (tmp_path / "store" / "coco").exists()
