"""README's first three commands, as they stand, with the demo's real model and clip."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgert.cli import main
from edgert.demo.example import write_example
from edgert.demo.fetch import FetchError
from edgert.demo.material import default_cache, prepare_material
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.models.store import ModelStore

pytestmark = pytest.mark.system
RECIPE = Path(__file__).parents[2] / "calibration" / "coco.toml"


def refuse(*_arguments, **_options):
    raise FetchError("not here")


def test_the_recipe_that_ships_fits_what_the_demo_keeps(tmp_path, capsys):
    try:
        material = prepare_material(default_cache(), print, fetch=refuse)
    except (FetchError, ConfigError) as error:
        pytest.skip(f"needs the demo's material in its cache: {error}")
    if material.coco is None:
        pytest.skip("needs the demo's model coco")
    write_example(tmp_path / "example", material, has_links=True)
    (tmp_path / "calibration").mkdir()
    recipe = shutil.copy(RECIPE, tmp_path / "calibration")
    assert main(["calibrate", str(recipe), "--check"]) == ExitCode.OK
    assert main(["calibrate", str(recipe)]) == ExitCode.OK
    assert "INT8 by" in capsys.readouterr().out
    entry = ModelStore(tmp_path / "example" / "store").entry("coco-int8")
    assert entry.engine_file(entry.chosen_versions()[-1]).is_file()
