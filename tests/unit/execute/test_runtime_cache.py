"""What TensorRT-RTX compiled, kept on disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from edgert.execute.runtime_cache import RuntimeCacheFile, cache_folder

VARIABLES = ("EDGERT_CACHE", "CACHE_DIRECTORY", "XDG_CACHE_HOME")


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def folder(environment, tmp_path):
    environment.setenv("EDGERT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "runtime"


@pytest.fixture
def make_plan(tmp_path):
    def make(model="detector", version="1", content=b"plan", built_s=1_000):
        file = tmp_path / "store" / model / version / "model.plan"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (built_s, built_s))
        return file

    return make


def test_what_was_kept_is_there_at_the_next_start(folder, make_plan):
    plan = make_plan()
    assert RuntimeCacheFile(plan).read() == b""
    RuntimeCacheFile(plan).write(b"kernels")
    assert RuntimeCacheFile(plan).read() == b"kernels"


def test_what_is_newer_takes_the_place_of_what_was_kept_and_leaves_no_other_file(folder, make_plan):
    cache = RuntimeCacheFile(make_plan())
    for content in (b"kernels", b"more kernels"):
        cache.write(content)
    assert cache.read() == b"more kernels"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"version": "2"}, {"content": b"another plan"}, {"built_s": 2_000}],
    ids=["model", "version", "size", "time"],
)
def test_another_engine_has_a_file_of_its_own(folder, make_plan, change):
    RuntimeCacheFile(make_plan()).write(b"kernels")
    assert RuntimeCacheFile(make_plan(**change)).read() == b""


def test_models_whose_names_have_dots_do_not_share_a_file(folder, make_plan):
    first, second = (RuntimeCacheFile(make_plan(model)) for model in ("yolo.n", "yolo.s"))
    first.write(b"n")
    second.write(b"s")
    assert (first.read(), second.read()) == (b"n", b"s")


def test_a_write_that_fails_keeps_what_there_was_and_leaves_nothing_half_written(
    folder, make_plan, monkeypatch, caplog
):
    cache = RuntimeCacheFile(make_plan())
    cache.write(b"kernels")

    def full(path, content):
        with path.open("wb") as opened:
            opened.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with caplog.at_level(logging.INFO):
        cache.write(b"more kernels")
    assert cache.read() == b"kernels"
    assert [path.suffix for path in folder.iterdir()] == [".cache"]
    assert "cannot be kept" in caplog.text
    assert "No space left on device" in caplog.text


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_cache(environment, tmp_path, make_plan, caplog):
    (tmp_path / "file").write_bytes(b"")
    environment.setenv("EDGERT_CACHE", str(tmp_path / "file"))
    cache = RuntimeCacheFile(make_plan())
    with caplog.at_level(logging.INFO):
        cache.write(b"kernels")
    assert cache.read() == b""
    assert "cannot be kept" in caplog.text


def test_a_folder_that_is_a_file_holds_nothing(environment, tmp_path, make_plan):
    (tmp_path / "file").write_bytes(b"")
    environment.setenv("EDGERT_CACHE", str(tmp_path / "file"))
    assert RuntimeCacheFile(make_plan()).read() == b""


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"EDGERT_CACHE": "/e", "CACHE_DIRECTORY": "/c", "XDG_CACHE_HOME": "/x"}, "/e"),
        ({"CACHE_DIRECTORY": "/c", "XDG_CACHE_HOME": "/x"}, "/c"),
        ({"CACHE_DIRECTORY": "/c:/d"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/edgert"),
        ({"EDGERT_CACHE": "", "CACHE_DIRECTORY": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/edgert"),
        ({"HOME": "/h"}, "/h/.cache/edgert"),
    ],
)
def test_the_folder_is_the_first_that_is_named(environment, variables, expected):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert cache_folder() == Path(expected)
