"""The model as the service would run it, and what is refused before any frame is taken."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from edgert.calibrate.fit import check_fit
from edgert.calibrate.recipe import load_recipe
from edgert.calibrate.sample.sampler import sample
from edgert.calibrate.setting import open_setting
from edgert.errors import ConfigError, ModelError
from edgert.models.calibration_cache import CalibrationCache, write_calibration_cache
from tests.fakes.onnx_graphs import quantized, scaled
from tests.fakes.recipe import SETTINGS, SIDE, RecipeSite, classifier
from tests.fakes.store import ssd_model

SSD = '[prepare]\nfit = "stretch"\n[decode]\nkind = "ssd"\nboxes = "boxes"\nscores = "scores"\n'
COCO = {
    "images": [{"id": 1, "file_name": "000.png"}],
    "annotations": [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 7, "name": "1"}],
}


@pytest.fixture
def site(tmp_path):
    return RecipeSite(tmp_path)


def opened(site, text="", **keys):
    setting = open_setting(load_recipe(site.recipe(text, **keys)))
    check_fit(setting)
    return setting


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_frames_are_prepared_as_the_service_does(tmp_path, batch):
    site = RecipeSite(tmp_path, classifier(batch=batch))
    setting = opened(site, sample=site.pictures(4), few="count = 2\nselection_count = 1\nheld_out_count = 1")
    samples = sample(setting.recipe.options.sample, tmp_path, site.work)
    [first, second] = setting.frames(samples.calibration)
    assert first.name == samples.calibration[0].file
    assert (first.tensor.shape, first.tensor.dtype) == ((3, SIDE, SIDE), np.float32)
    assert 0 < first.tensor.mean() < 1
    assert not np.array_equal(first.tensor, second.tensor)


def test_a_decoder_gives_as_many_classes_as_are_compared(site):
    setting = opened(site)
    answer = setting.decoder.decode({"logits": np.arange(6, dtype=np.float32)}, None)
    assert answer.class_indices.tolist() == [5, 4, 3, 2, 1]


@pytest.mark.parametrize(("top", "count"), [("", 0), ('labels = "boxes.json"', 2)])
def test_boxes_of_low_scores_count_where_there_are_labels(tmp_path, top, count):
    site = RecipeSite(tmp_path)
    site.add("tiny", ssd_model(), settings=f"{SSD}score_min = 0.9\n")
    (tmp_path / "boxes.json").write_text(json.dumps(COCO))
    setting = open_setting(load_recipe(site.recipe(top=top)))
    [frame] = [setting.preparer.prepare(np.zeros((8, 8, 3), np.uint8), "bgr8")]
    outputs = {
        "boxes": np.array([[0.25, 0.125, 0.75, 0.5], [0, 0, 0.5, 1]], np.float32),
        "scores": np.array([[0.8, 0.0], [0.0, 0.05]], np.float32),
    }
    assert len(setting.decoder.decode(outputs, frame[1]).scores) == count


def test_another_file_than_the_stores_may_be_calibrated(site, tmp_path):
    other = classifier(seed=5)
    onnx.save(other, tmp_path / "other.onnx")
    setting = opened(site, top='onnx = "other.onnx"')
    assert setting.model.file.path == tmp_path / "other.onnx"
    with pytest.raises(ConfigError, match=r"absent.onnx: no such file; expected a model in ONNX form"):
        opened(site, top='onnx = "absent.onnx"')


def test_the_newest_version_is_calibrated(site):
    folder = site.add("tiny", classifier(seed=2).SerializeToString(), version=2, settings=None)
    assert opened(site).model.file.path == folder / "2" / "model.onnx"


def test_labels_are_read_at_once(site, tmp_path):
    (tmp_path / "l.csv").write_text("file,label\n000.png,3\n001.png,0\n")
    assert opened(site, top='labels = "l.csv"').truths == {"000.png": 3, "001.png": 0}
    (tmp_path / "l.csv").write_text("file,label\n000.png,cat\n")
    with pytest.raises(ConfigError, match=r"l.csv:2: label 'cat' is no label of the model"):
        opened(site, top='labels = "l.csv"')
    with pytest.raises(ConfigError, match=r"absent.csv: cannot be read"):
        opened(site, top='labels = "absent.csv"')


def test_labels_are_of_the_models_kind(site, tmp_path):
    (tmp_path / "boxes.json").write_text(json.dumps(COCO))
    with pytest.raises(ConfigError) as caught:
        opened(site, top='labels = "boxes.json"')
    assert "recipe.toml: labels = 'boxes.json': tells boxes, and the model's [decode] gives none" in str(
        caught.value
    )
    site.add("tiny", settings='[prepare]\nfit = "stretch"\n')
    with pytest.raises(ConfigError, match="tells classes"):
        opened(site, top='labels = "classes.csv"')


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[limits]\nrecall_min = 0.9", "limits.recall_min: is of boxes, and the model's [decode] gives none"),
        ("[limits]\nmap_drop_max = 0.1", "limits.map_drop_max: is of boxes"),
        ("[limits]\naccuracy_drop_max = 0.1", "limits.accuracy_drop_max: needs labels"),
        ('[engine]\nruntime = "onnxruntime"\nbatches = [4]', "engine.batches: is for engines of TensorRT"),
        ('[engine]\nruntime = "onnxruntime"\nworkspace_mb = 4', "engine.workspace_mb: is for engines"),
        ('[engine]\nruntime = "onnxruntime"\nkeep_previous = 0', "engine.keep_previous: is for engines"),
        ('[quantize]\nkeep = ["absent"]', "no layer is called 'absent'"),
        ('[quantize]\ncache = "absent.cache"', "absent.cache: cannot be read"),
    ],
)
def test_what_would_fail_later_is_refused_now(site, text, told):
    with pytest.raises(ConfigError) as caught:
        opened(site, text)
    assert told in str(caught.value)


def test_limits_that_can_be_measured_are_taken(site):
    opened(site, "[limits]\ntop1_agreement_min = 0.9\ncosine_min = 0.5")


@pytest.mark.parametrize(
    ("scales", "told"),
    [
        ({"data": 1.0, "conv": 1.0}, "is of another network: 0 of its 2 named tensors"),
        (
            {"image": 0.0, "r1": 0.0, "flat": 0.0, "m1": 1.0, "m2": 1.0},
            "has a range for none of the 3 tensors",
        ),
    ],
)
def test_a_cache_of_another_network_is_refused(site, tmp_path, scales, told):
    write_calibration_cache(tmp_path / "old.cache", CalibrationCache(100300, "EntropyCalibration2", scales))
    with pytest.raises(ConfigError) as caught:
        opened(site, '[quantize]\ncache = "old.cache"')
    assert told in str(caught.value)


def test_a_model_that_is_not_in_the_store(site, tmp_path):
    path = site.recipe()
    path.write_text(path.read_text().replace('"tiny"', '"tny"'))
    with pytest.raises(ModelError, match=r"Model 'tny' is not in the store .*; did you mean 'tiny'\?"):
        open_setting(load_recipe(path))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"no model", "not a usable ONNX file"),
        (b"", "not a usable ONNX file"),
        (quantized().SerializeToString(), "is quantized already"),
        (scaled().SerializeToString(), "has no layer that could be quantized: none has constant weights"),
    ],
)
def test_models_that_cannot_be_calibrated(site, content, told):
    (site.store / "tiny" / "1" / "model.onnx").write_bytes(content)
    site.add("tiny", settings='[prepare]\nfit = "stretch"\n')
    with pytest.raises(ModelError) as caught:
        opened(site)
    assert told in str(caught.value)


def test_an_engine_is_no_model_to_calibrate(site):
    folder = site.add("tiny", version=2, settings=None)
    (folder / "2" / "model.plan").write_bytes(b"ptrt")
    with pytest.raises(ConfigError, match=r"runs .*model.plan, which is no ONNX file; say with onnx = "):
        opened(site)


def test_the_int8_models_name_may_not_be_another_runtimes(site):
    folder = site.add("tiny-int8", settings=SETTINGS)
    (folder / "1" / "model.plan").write_bytes(b"ptrt")
    with pytest.raises(
        ConfigError, match=r"that model in .* is for tensorrt, not onnxruntime; give the INT8 model"
    ):
        opened(site, '[engine]\nruntime = "onnxruntime"')


def test_settings_for_another_runtime_cannot_be_taken_over(site):
    site.add("tiny", settings=f'[engine]\nruntime = "onnxruntime"\n{SETTINGS}')
    opened(site, '[engine]\nruntime = "onnxruntime"')
    with pytest.raises(ConfigError, match=r"edgert.toml: \[engine\]: the INT8 model takes this file over"):
        opened(site, '[engine]\nruntime = "tensorrt_rtx"')


def test_a_runtime_that_is_not_installed(site, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'runtime = "tensorrt_rtx": TensorRT-RTX is not installed'):
        opened(site, '[engine]\nruntime = "tensorrt_rtx"')
    opened(site, '[engine]\nruntime = "tensorrt_rtx"\nactivate = false')
