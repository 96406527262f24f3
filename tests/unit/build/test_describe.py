"""What a new model gets beside its engine."""

from __future__ import annotations

import pytest

from edgert.build.describe import EngineFacts, config_text, describe
from edgert.build.install import drafted
from edgert.errors import ConfigError, ModelError
from edgert.models.config_pbtxt import parse_config
from edgert.models.store import ModelStore
from edgert.models.tensor_spec import TensorSpec
from tests.fakes.store import Site

BATCHED = EngineFacts(
    (TensorSpec("images", "float32", (-1, 3, 8, 8)),),
    (TensorSpec("boxes", "float16", (-1, 9, 4)), TensorSpec('odd"name\\', "int64", (-1,))),
    max_batch=8,
)
FIXED = EngineFacts(
    (TensorSpec("images", "uint8", (4, 3, -1, 8)),), (TensorSpec("boxes", "bool", (4, 9)),), max_batch=0
)


def test_a_configuration_says_what_the_engine_is():
    config = parse_config(config_text("coco", BATCHED, {"boxes": "labels.txt"})).config
    assert (config.name, config.platform, config.max_batch_size) == ("coco", "tensorrt_plan", 8)
    [images] = config.inputs
    assert (images.name, images.dtype, images.dims) == ("images", "float32", (3, 8, 8))
    boxes, odd = config.outputs
    assert (boxes.dtype, boxes.dims, boxes.label_filename) == ("float16", (9, 4), "labels.txt")
    assert (odd.name, odd.dims) == ('odd"name\\', ())
    assert config.dynamic_batching is not None


def test_an_engine_of_one_batch_size_is_described_whole():
    config = parse_config(config_text("coco", FIXED, {})).config
    assert config.max_batch_size == 0
    assert config.inputs[0].dims == (4, 3, -1, 8)
    assert config.dynamic_batching is None


def test_a_type_that_the_inference_server_has_not_is_named():
    facts = EngineFacts((TensorSpec("x", "float8", (-1,)),), (), 1)
    with pytest.raises(ModelError, match=r"Tensor 'x' is float8, which config.pbtxt has no name for"):
        config_text("coco", facts, {})


def described(site, name="new", runtime="tensorrt_rtx", like=None):
    with drafted(site.store, name) as draft:
        written = describe(draft, BATCHED, runtime, ModelStore(site.store).entry(like) if like else None)
        draft.activate()
    return written, ModelStore(site.store).entry(name)


def test_a_new_model_has_its_runtime_and_room_for_the_rest(tmp_path):
    written, entry = described(Site(tmp_path))
    assert written == ("config.pbtxt", "edgert.toml")
    assert entry.settings.tree == {"engine": {"runtime": "tensorrt_rtx"}}
    assert "# [decode]" in entry.settings.path.read_text()


def test_a_new_model_may_be_like_another(tmp_path):
    site = Site(tmp_path)
    settings = 'prepare.fit = "stretch"\n\n[labels]\nfile = "names/coco.txt"\n'
    config = 'output [ { name: "boxes" label_filename: "other.txt" } ]\n'
    folder = site.add("old", settings=settings, config=config)
    (folder / "names").mkdir()
    (folder / "names" / "coco.txt").write_text("cat\ndog\n")
    (folder / "other.txt").write_text("bird\n")
    written, entry = described(site, like="old")
    assert written == ("names/coco.txt", "other.txt", "config.pbtxt", "edgert.toml")
    assert entry.settings.tree == {
        "prepare": {"fit": "stretch"},
        "labels": {"file": "names/coco.txt"},
        "engine": {"runtime": "tensorrt_rtx"},
    }
    assert entry.labels() == ("bird",)
    assert (entry.folder / "names" / "coco.txt").read_text() == "cat\ndog\n"


def test_a_model_like_one_for_the_same_runtime_is_the_same(tmp_path):
    site = Site(tmp_path)
    site.add("old", settings='[engine]\nruntime = "tensorrt_rtx"\nlanes = 2\n')
    _, entry = described(site, like="old")
    assert entry.settings.tree == {"engine": {"runtime": "tensorrt_rtx", "lanes": 2}}


def test_a_model_like_one_for_another_runtime_has_to_be_written(tmp_path):
    site = Site(tmp_path)
    site.add("old", settings="[engine]\nlanes = 2\n")
    with pytest.raises(
        ConfigError, match=r"\[engine\] is for another runtime, the engine is for tensorrt_rtx"
    ):
        described(site, like="old")
    assert not (site.store / "new").exists()


def test_labels_that_are_missing_or_elsewhere_are_named(tmp_path):
    site = Site(tmp_path)
    site.add("old", settings='[labels]\nfile = "absent.txt"\n')
    with pytest.raises(ModelError, match=r"absent.txt: cannot be read"):
        described(site, like="old")
    site.add("old", settings='[labels]\nfile = "../../secret.txt"\n')
    with pytest.raises(ModelError, match="expected a file inside"):
        described(site, like="old")


def test_files_that_are_there_stay(tmp_path):
    site = Site(tmp_path)
    site.add("new", config="max_batch_size: 2\n", settings="[prepare]\n")
    written, entry = described(site)
    assert written == ()
    assert entry.config.max_batch_size == 2
