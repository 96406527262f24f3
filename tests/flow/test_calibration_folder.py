"""Every recipe that ships: it is read, and fits the demo's models."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edgert.calibrate.fit import check_fit
from edgert.calibrate.recipe import load_recipe
from edgert.calibrate.sample.sampler import open_frames
from edgert.calibrate.setting import open_setting
from edgert.config import Document
from edgert.decode.factory import DecodeOptions
from edgert.demo import store as demo_store
from edgert.demo.example import write_example
from edgert.demo.material import Material, ModelFiles
from edgert.models.store import ModelStore
from tests.fakes.recipe import RecipeSite, classifier

FOLDER = Path(__file__).parents[2] / "calibration"
FILES = sorted(FOLDER.glob("*.toml"))
MODELS = {"coco": demo_store.COCO, "classify": demo_store.CLASSIFY}


def test_there_are_recipes():
    assert [path.name for path in FILES] == ["camera.toml", "coco.toml"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_recipe_is_right(path):
    recipe = load_recipe(path)
    assert recipe.options.model in MODELS
    assert recipe.work == FOLDER / path.stem
    assert recipe.options.limits.are_set
    assert open_frames(recipe.options.sample, FOLDER) is not None


def test_the_first_recipe_to_try_is_of_what_the_demo_keeps(tmp_path):
    """Written where README's `edgert demo --keep example` writes it, beside a copy of the recipe."""
    file = tmp_path / "anything"
    file.write_text("any\n")
    model = ModelFiles(file, file)
    material = Material(model, model, model, file, file, (), ())
    write_example(tmp_path / "example", material, has_links=False)
    (tmp_path / "calibration").mkdir()
    copy = tmp_path / "calibration" / "coco.toml"
    copy.write_bytes((FOLDER / "coco.toml").read_bytes())
    recipe = load_recipe(copy)
    assert ModelStore(recipe.store).entry(recipe.options.model).name == "coco"
    source = recipe.file(recipe.options.sample.source.removeprefix("file:"))
    assert source.samefile(tmp_path / "example" / "clips" / "street.mp4")
    assert source.read_text() == "any\n"


def test_a_recipe_for_a_board_has_enough_frames():
    assert load_recipe(FOLDER / "camera.toml").options.sample.count >= 500


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_limits_are_of_what_the_model_finds(path, tmp_path):
    """The demo's decoding beside a model that is there; nothing is installed."""
    recipe = load_recipe(path)
    site = RecipeSite(tmp_path, classifier())
    opened = open_setting(load_recipe(site.recipe()))
    options = msgspec.structs.replace(recipe.options, engine=None)
    (tmp_path / "edgert.toml").write_text(MODELS[recipe.options.model].edgert_toml)
    demo = Document.load(tmp_path / "edgert.toml").section("decode", DecodeOptions)
    settings = msgspec.structs.replace(opened.plan.settings, decode=demo)
    plan = msgspec.structs.replace(opened.plan, settings=settings)
    recipe = msgspec.structs.replace(recipe, options=options)
    assert check_fit(msgspec.structs.replace(opened, recipe=recipe, plan=plan)).layers


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_commented_out_is_right_too(path, tmp_path):
    """Each key and table that a comment offers is one that a recipe has."""
    text = path.read_text()
    offered = re.sub(r"^# (?=\w+ = |\[)", "", text, flags=re.MULTILINE)
    assert offered != text
    if "[sample.tap]" in offered:
        offered = re.sub(r'^source = "rtsp.*$|^frames_per_s.*$', "", offered, flags=re.MULTILINE)
    offered = (
        re.sub(r"^method = .*$", "", offered, flags=re.MULTILINE) if "\ncache = " in offered else offered
    )
    (tmp_path / "recipe.toml").write_text(offered)
    assert load_recipe(tmp_path / "recipe.toml").options.model in MODELS
