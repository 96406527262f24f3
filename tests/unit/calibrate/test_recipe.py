"""Recipes: what is read, and what is refused with which words."""

from __future__ import annotations

import pytest

from edgert.calibrate.recipe import load_recipe
from edgert.errors import ConfigError

SAMPLE = '[sample]\npictures = ["here"]\n'


@pytest.fixture
def load(tmp_path):
    def loaded(text="", top='store = "store"\nmodel = "coco"\n', sample=SAMPLE, name="night.toml", sets=()):
        path = tmp_path / name
        path.write_text(f"{top}{sample}{text}")
        return load_recipe(path, sets)

    return loaded


def test_paths_begin_at_the_recipe(load, tmp_path):
    recipe = load()
    assert (recipe.folder, recipe.work, recipe.store) == (tmp_path, tmp_path / "night", tmp_path / "store")
    assert recipe.file("/labels.csv").as_posix() == "/labels.csv"
    assert load(top='store = "../s"\nmodel = "coco"\nwork = "w"\n').work == tmp_path / "w"


def test_paths_may_begin_at_home(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/porch")
    recipe = load(top='store = "~/s"\nmodel = "coco"\nwork = "~/w"\n')
    assert (str(recipe.store), str(recipe.work)) == ("/home/porch/s", "/home/porch/w")
    with pytest.raises(ConfigError, match=r"night.toml: path '~nobody-of-that-name/x'"):
        recipe.file("~nobody-of-that-name/x")


def test_the_int8_model_has_a_name_of_its_own(load):
    assert load().name == "coco-int8"
    assert load('[engine]\nruntime = "onnxruntime"\nname = "small"\n').name == "small"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[quantise]\n", "unknown key 'quantise'; did you mean 'quantize'?"),
        ("[limits]\nrecal_min = 0.9\n", "limits: unknown key 'recal_min'; did you mean 'recall_min'?"),
        ("[limits]\nrecall_min = 1.5\n", "limits.recall_min"),
        (
            '[quantize]\nmethod = "kl"\n',
            "quantize.method = 'kl': expected one of 'auto', 'minmax', 'percentile_99.99', "
            "'percentile_99.999', 'mse', 'entropy'",
        ),
        ("[quantize]\nmost_sensitive = 17\n", "quantize.most_sensitive = 17: expected `int` <= 16"),
        ("[quantize]\nsensitivity_frames = 0\n", "quantize.sensitivity_frames"),
        ("[engine]\n", "engine"),
        ('[engine]\nruntime = "onnx"\n', "engine.runtime = 'onnx'"),
        ('[engine]\nruntime = "onnxruntime"\nname = "coco"\n', "is the FP32 model's name"),
        (
            '[engine]\nruntime = "onnxruntime"\nname = "a/b"\n',
            "engine.name = 'a/b': expected a name without '/'",
        ),
        (
            '[quantize]\nmethod = "mse"\ncache = "old.cache"\n',
            "quantize.method = 'mse': the thresholds are in quantize.cache",
        ),
    ],
)
def test_mistakes(load, text, told):
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert "night.toml: " in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "told"),
    [
        ("", "sample"),
        ("[sample]\n", "found none of them"),
        ('[sample]\npictures = ["a"]\nsource = "csi:0"\n', "found source and pictures"),
        ('[sample]\nsource = "carrier-pigeon:0"\n', "carrier-pigeon"),
        ('[sample]\npictures = ["a"]\nduration_s = 5\n', "duration_s = 5: only for live sources"),
        ('[sample]\npictures = ["a"]\ncount = 0\n', "sample.count"),
    ],
)
def test_mistakes_about_frames(load, sample, told):
    with pytest.raises(ConfigError) as caught:
        load(sample=sample)
    assert "night.toml: " in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ('model = "coco"\n', "store"),
        (
            'store = "s"\nmodel = "coco"\nlabels = "l.txt"\n',
            "labels = 'l.txt': expected a file ending in .csv or .json",
        ),
        ('store = "s"\nmodel = "coco"\nscore_min = 2\n', "score_min"),
    ],
)
def test_mistakes_at_the_top(load, top, told):
    with pytest.raises(ConfigError) as caught:
        load(top=top)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("sample", "top"),
    [
        ('pictures = ["far", "night/frames"]', ""),
        ('pictures = ["./frames/000001.png"]', 'work = "."'),
        ('pictures = ["night"]', ""),
        ('recording = "night"', ""),
        ('recording = "w/samples.json"', 'work = "../w"'),
    ],
)
def test_frames_are_not_read_from_the_folder_of_work(load, tmp_path, sample, top):
    if ".." in top:
        (tmp_path / "w").symlink_to(tmp_path.parent / "w")
    with pytest.raises(ConfigError, match=r"night.toml: sample\.(pictures|recording): .* lies in the folder"):
        load(top=f'store = "s"\nmodel = "coco"\n{top}\n', sample=f"[sample]\n{sample}\n")


def test_limits_are_not_for_an_engine_that_nothing_measures(load):
    engine = '[engine]\nruntime = "tensorrt"\ncalibrator = "entropy2"\n'
    assert load(engine).options.engine.calibrator == "entropy2"
    with pytest.raises(ConfigError, match=r"Leave out \[limits\] or calibrator"):
        load(f"[limits]\ncosine_min = 0.9\n{engine}")


def test_a_recipe_is_not_its_own_folder_of_work(load):
    with pytest.raises(ConfigError, match=r"would be the recipe itself; let its name end in \.toml"):
        load(name="night")


def test_keys_can_be_set_beside_the_file(load, tmp_path):
    recipe = load(sets=["sample.count=7", "quantize.method=mse", "store=other", "score_min=0.25"])
    assert (recipe.options.sample.count, recipe.options.quantize.method) == (7, "mse")
    assert (recipe.store, recipe.options.score_min) == (tmp_path / "other", 0.25)
    with pytest.raises(ConfigError, match=r"night\.toml: sample\.count = 0: expected"):
        load(sets=["sample.count=0"])


def test_who_leaves_the_least_score_to_the_model_is_known(load):
    assert not load().states_score_min
    assert load(top='store = "s"\nmodel = "coco"\nscore_min = 0.5\n').states_score_min


def test_no_recipe(tmp_path):
    with pytest.raises(ConfigError, match=r"absent.toml: no such file"):
        load_recipe(tmp_path / "absent.toml")
