"""The real recipes' names, made from a package that the test writes."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest

from edgert.demo import material as material_module
from edgert.demo.fetch import Archive, FetchError
from edgert.demo.material import default_cache, prepare_material
from edgert.demo.recipes import Recipe
from edgert.errors import ConfigError

FILES = {
    "coco": ("model.onnx", "labels.txt"),
    "face": ("model.onnx", "labels.txt"),
    "classify": ("model.onnx", "labels.txt"),
    "clips": ("bikes.mp4", "carphone_pristine.mp4"),
    "pictures": ("imagenet_01_7.jpg", "imagenet_00_3.jpg"),
}


def recipe_of(name: str) -> Recipe:
    members = tuple(f"{name}/{file}" for file in FILES[name])
    return Recipe(name, (Archive("npm" if name == "coco" else "pip", name, "1.0", "0" * 64, 1, members),))


RECIPES = [recipe_of(name) for name in FILES]


class FakeIndex:
    """Stands in for the network: gives the same wheel for every package and fails where it is told to."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.asked: list[str] = []
        self.failures: dict[str, BaseException] = {}

    def fetch(self, archive: Archive, folder: Path) -> Path:
        self.asked.append(archive.name)
        if archive.name in self.failures:
            raise self.failures[archive.name]
        return self.wheel


class Caller:
    """Prepares one cache, as the demo does, and keeps what was reported."""

    def __init__(self, cache: Path, index: FakeIndex) -> None:
        self.cache = cache
        self.index = index
        self.lines: list[str] = []
        self.npm = ""

    def prepare(self):
        self.lines.clear()
        self.index.asked.clear()
        return prepare_material(
            self.cache,
            self.lines.append,
            recipes=RECIPES,
            fetch=self.index.fetch,
            explain_missing=lambda client: self.npm,
        )


@pytest.fixture
def caller(tmp_path, make_wheel):
    wheel = make_wheel("all.whl", {f"{name}/{file}": b"x" for name, files in FILES.items() for file in files})
    return Caller(tmp_path / "cache", FakeIndex(wheel))


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_everything_lies_where_it_says(caller):
    material = caller.prepare()
    files = [material.coco.model, material.face.labels, material.classify.model, *material.pictures]
    assert all(path.is_file() for path in [*files, material.street_clip, material.driver_clip])
    assert [path.name for path in material.pictures] == ["imagenet_00_3.jpg", "imagenet_01_7.jpg"]
    assert material.left_out == ()
    assert len(caller.lines) == 6
    assert folders(caller.cache) == sorted(FILES)


def test_a_second_run_does_nothing(caller):
    first = caller.prepare()
    times = {path: path.stat().st_mtime_ns for path in caller.cache.rglob("*")}
    assert caller.prepare() == first
    assert caller.index.asked == []
    assert caller.lines == []
    assert {path: path.stat().st_mtime_ns for path in caller.cache.rglob("*")} == times


def test_only_a_damaged_part_is_fetched_again(caller):
    caller.prepare()
    (caller.cache / "clips" / "bikes.mp4").write_bytes(b"damaged")
    caller.prepare()
    assert caller.index.asked == ["clips"]


def test_without_npm_the_detector_is_left_out_with_its_cure(caller):
    caller.npm = "npm is not installed. Run: apt"
    material = caller.prepare()
    assert material.coco is None
    assert material.left_out == (
        "Left out: model coco, which needs npm package coco 1.0; npm is not installed. Run: apt",
    )
    assert caller.lines[0] == material.left_out[0]
    assert folders(caller.cache) == ["classify", "clips", "face", "pictures"]


def test_npm_installed_later_adds_only_the_detector(caller):
    caller.npm = "npm is not installed"
    caller.prepare()
    caller.npm = ""
    assert caller.prepare().coco is not None
    assert caller.index.asked == ["coco"]


def test_a_cached_detector_needs_no_npm(caller):
    caller.prepare()
    caller.npm = "npm is not installed"
    assert caller.prepare().coco is not None


def test_what_was_fetched_before_a_failure_is_kept(caller):
    caller.index.failures["classify"] = FetchError("no network")
    with pytest.raises(FetchError, match="no network"):
        caller.prepare()
    assert folders(caller.cache) == ["coco", "face"]
    caller.index.failures.clear()
    caller.prepare()
    assert caller.index.asked == ["classify", "clips", "pictures"]


def test_an_interrupt_leaves_nothing_half_made(caller):
    caller.index.failures["clips"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        caller.prepare()
    assert folders(caller.cache) == ["coco", "face"]
    caller.index.failures.clear()
    caller.prepare()
    assert caller.index.asked == ["classify", "clips", "pictures"]


def test_a_second_process_waits_and_then_finds_everything(caller):
    caller.cache.mkdir()
    is_waiting = threading.Event()
    other = Caller(caller.cache, caller.index)
    other.lines = WakingList(is_waiting)
    with (caller.cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=other.prepare)
        thread.start()
        assert is_waiting.wait(10)
        assert other.lines == [f"Waiting for another process that prepares {caller.cache}"]
        assert caller.index.asked == []
    thread.join(10)
    assert len(caller.index.asked) == 5


class WakingList(list):
    """A list that sets an event when the first line is appended."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def append(self, line: str) -> None:
        super().append(line)
        self._event.set()


def test_a_cache_that_cannot_be_written_is_named(caller, tmp_path):
    (tmp_path / "file").touch()
    caller.cache = tmp_path / "file" / "cache"
    with pytest.raises(
        ConfigError, match=r"The cache folder .*file/cache cannot be used: .* EDGERT_CACHE"
    ) as e:
        caller.prepare()
    assert "space" not in str(e.value)


def test_a_full_disk_is_told_as_such(caller):
    caller.index.failures["classify"] = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ConfigError, match="Free some space, or name another folder with EDGERT_CACHE"):
        caller.prepare()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "~/.cache/edgert/demo"),
        ({"XDG_CACHE_HOME": "/x", "EDGERT_CACHE": ""}, "/x/edgert/demo"),
        ({"XDG_CACHE_HOME": "/x", "EDGERT_CACHE": "/e"}, "/e/demo"),
    ],
)
def test_the_cache_folder_can_be_chosen(environment, expected):
    assert default_cache(environment) == Path(expected).expanduser()


def test_the_command_says_what_there_is(caller, monkeypatch, capsys):
    caller.prepare()
    monkeypatch.setattr(material_module, "prepare_material", lambda cache, report: caller.prepare())
    assert material_module.main(["--cache", str(caller.cache)]) == 0
    assert capsys.readouterr().out.startswith("coco, face, classify; 2 clips; 2 pictures; ")


@pytest.mark.parametrize(("error", "status"), [(FetchError("no network"), 5), (KeyboardInterrupt(), 130)])
def test_the_command_fails_in_a_line(caller, monkeypatch, capsys, error, status):
    def fail(cache, report):
        raise error

    monkeypatch.setattr(material_module, "prepare_material", fail)
    assert material_module.main(["--cache", str(caller.cache)]) == status
    assert "Traceback" not in capsys.readouterr().err
