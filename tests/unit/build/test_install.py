"""A version comes into the store whole or not at all, and goes back again."""

from __future__ import annotations

import fcntl
import os

import pytest

from edgert.build.install import drafted, remove_old, roll_back
from edgert.errors import BusyError, ConfigError, ModelError
from edgert.models.store import ModelStore

CONFIG = 'platform: "tensorrt_plan"\n'


def add_version(store, number, *, manifest=True, name="coco"):
    folder = store / name / str(number)
    folder.mkdir(parents=True)
    (folder / "model.plan").write_bytes(b"ftrt")
    if manifest:
        (folder / "model.plan.manifest.json").write_text("{}")
    return folder


def versions(store, name="coco"):
    return [version.number for version in ModelStore(store).entry(name).versions()]


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_draft_becomes_a_version_from_one_moment_to_the_next(tmp_path):
    with drafted(tmp_path / "store", "coco") as draft:
        draft.write_plan(memoryview(b"plan"))
        assert draft.add_beside("config.pbtxt", CONFIG.encode())
        assert versions(tmp_path / "store") == []
        assert draft.plan_file == tmp_path / "store" / "coco" / "1.partial" / "model.plan"
        assert draft.version.number == 1
        version = draft.activate()
    assert version.folder == draft.plan_file.parent == tmp_path / "store" / "coco" / "1"
    assert everything(tmp_path / "store") == ["coco", "coco/1", "coco/1/model.plan", "coco/config.pbtxt"]
    assert draft.plan_file.read_bytes() == b"plan"


def give_up(store, failure):
    """Begin a version, with files beside it, and fail."""
    with drafted(store, "coco") as draft:
        draft.write_plan(b"plan")
        draft.add_beside("config.pbtxt", b"platform: 'other'")
        draft.add_beside("lists/labels.txt", b"cat\n")
        raise failure


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ModelError("too far off")])
def test_what_is_not_activated_leaves_no_trace(tmp_path, failure):
    with pytest.raises(type(failure)):
        give_up(tmp_path / "store", failure)
    assert everything(tmp_path) == []


def test_what_was_there_before_stays(tmp_path):
    add_version(tmp_path, 1)
    (tmp_path / "coco" / "config.pbtxt").write_text(CONFIG)
    before = everything(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        give_up(tmp_path, KeyboardInterrupt())
    assert everything(tmp_path) == before
    assert (tmp_path / "coco" / "config.pbtxt").read_text() == CONFIG


def test_no_number_comes_twice(tmp_path):
    for number in (1, 2, 3):
        add_version(tmp_path, number)
    (tmp_path / "coco" / "3").rename(tmp_path / "coco" / "7.rolled-back")
    (tmp_path / "coco" / "notes.9").touch()
    (tmp_path / "coco" / "30").touch()  # no folder
    with drafted(tmp_path, "coco") as draft:
        draft.activate()
    assert versions(tmp_path) == [1, 2, 8]


def test_what_an_interrupted_build_left_goes(tmp_path):
    add_version(tmp_path, 1)
    leftover = tmp_path / "coco" / "2.partial"
    leftover.mkdir()
    (leftover / "model.plan").touch()
    (tmp_path / "coco" / "mine.partial").mkdir()
    with drafted(tmp_path, "coco") as draft:
        draft.activate()
    assert versions(tmp_path) == [1, 2]
    assert not leftover.exists()
    assert (tmp_path / "coco" / "mine.partial").is_dir()


def test_the_engine_has_the_name_that_the_model_wants(tmp_path):
    with drafted(tmp_path, "coco", "orin.plan") as draft:
        draft.write_plan(b"plan")
        draft.activate()
    assert draft.plan_file == tmp_path / "coco" / "1" / "orin.plan"
    assert draft.plan_file.read_bytes() == b"plan"


def test_two_builds_of_one_model_do_not_mix(tmp_path):
    (tmp_path / "coco").mkdir()
    handle = os.open(tmp_path / "coco", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with (
        pytest.raises(BusyError, match="coco: another `edgert build` is writing it"),
        drafted(tmp_path, "coco"),
    ):
        pass
    os.close(handle)
    assert (tmp_path / "coco").is_dir()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a+b"])
def test_a_name_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="--name"), drafted(tmp_path, name):
        pass
    assert everything(tmp_path) == []


def test_a_store_that_cannot_be_made_is_named(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"absent/store: cannot be written: No such file"),
        drafted(tmp_path / "absent" / "store", "coco"),
    ):
        pass


def test_a_roll_back_serves_the_version_before(tmp_path):
    for number in (1, 2, 5):
        add_version(tmp_path, number)
    done = roll_back(tmp_path, "coco")
    assert (done.rolled_back, done.active, done.folder) == (5, 2, "5.rolled-back")
    assert versions(tmp_path) == [1, 2]
    assert [version.number for version in ModelStore(tmp_path).entry("coco").chosen_versions()] == [2]
    assert roll_back(tmp_path, "coco").active == 1
    assert (tmp_path / "coco" / "5.rolled-back" / "model.plan").is_file()


def test_there_has_to_be_a_version_to_go_back_to(tmp_path):
    add_version(tmp_path, 3)
    with pytest.raises(ModelError, match="coco: has version 3, expected one before it to go back to"):
        roll_back(tmp_path, "coco")
    assert versions(tmp_path) == [3]


def test_versions_that_the_configuration_names_are_not_rolled_back(tmp_path):
    for number in (1, 2):
        add_version(tmp_path, number)
    policy = "version_policy { specific { versions: [ 1, 2 ] } }\n"
    (tmp_path / "coco" / "config.pbtxt").write_text(CONFIG + policy)
    with pytest.raises(ModelError, match=r"field version_policy.specific names the versions that are served"):
        roll_back(tmp_path, "coco")


def test_a_model_that_is_not_there_is_not_rolled_back(tmp_path):
    add_version(tmp_path, 1)
    with pytest.raises(ModelError, match=r"Model 'cocoa' is not in the store .*did you mean 'coco'"):
        roll_back(tmp_path, "cocoa")


def test_old_versions_go_and_the_newest_stay(tmp_path):
    for number in (1, 2, 3, 4):
        add_version(tmp_path, number)
    add_version(tmp_path, 9).rename(tmp_path / "coco" / "1.rolled-back")
    add_version(tmp_path, 9).rename(tmp_path / "coco" / "5.rolled-back")
    assert remove_old(tmp_path, "coco", 1) == ("1", "1.rolled-back", "2")
    assert versions(tmp_path) == [3, 4]
    assert (tmp_path / "coco" / "5.rolled-back").is_dir()


def test_versions_that_were_not_built_here_stay(tmp_path):
    add_version(tmp_path, 1, manifest=False)
    for number in (2, 3):
        add_version(tmp_path, number)
    assert remove_old(tmp_path, "coco", 0) == ("2",)
    assert versions(tmp_path) == [1, 3]


def test_versions_that_the_configuration_names_stay(tmp_path):
    for number in (1, 2, 3):
        add_version(tmp_path, number)
    policy = "version_policy { specific { versions: [ 1 ] } }\n"
    (tmp_path / "coco" / "config.pbtxt").write_text(CONFIG + policy)
    assert remove_old(tmp_path, "coco", 0) == ("2",)
