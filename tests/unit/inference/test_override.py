"""What clients load in place of files."""

from __future__ import annotations

import tempfile

import pytest

from edgert.errors import ModelError, RequestError
from edgert.inference.override import Overrides
from edgert.models.store import ModelStore

CONFIG = '{"platform": "onnxruntime_onnx", "max_batch_size": 2}'


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder where private folders are made."""
    place = tmp_path / "private"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store" / "m" / "1").mkdir(parents=True)
    (tmp_path / "store" / "m" / "config.pbtxt").write_text("max_batch_size: 8")
    return ModelStore(tmp_path / "store")


@pytest.fixture
def overrides(place):
    overrides = Overrides()
    yield overrides
    overrides.close()
    assert list(place.iterdir()) == []


def test_nothing_given_is_no_override(overrides, store):
    assert overrides.make("m", None, {}) is None
    overrides.take("m", None)
    assert overrides.entry(store, "m").config.max_batch_size == 8


def test_a_configuration_takes_the_place_of_the_file_until_it_is_forgotten(overrides, store):
    overrides.take("m", overrides.make("m", CONFIG, {}))
    assert overrides.has("m")
    assert overrides.entry(store, "m").config.max_batch_size == 2
    assert overrides.entry(store, "m").folder == store.folder / "m"
    overrides.forget("m")
    assert overrides.entry(store, "m").config.max_batch_size == 8


def test_files_take_the_place_of_the_folder(overrides, store, place):
    overrides.take("new", overrides.make("new", CONFIG, {"2/model.onnx": b"graph", "labels.txt": b"cat"}))
    entry = overrides.entry(store, "new")
    [version] = entry.chosen_versions()
    assert version.number == 2
    assert entry.engine_file(version).read_bytes() == b"graph"
    assert entry.folder.is_relative_to(place)


def test_what_was_made_and_not_taken_leaves_the_earlier_one(overrides, store, place):
    overrides.take("m", overrides.make("m", CONFIG, {"1/model.onnx": b"first"}))
    refused = overrides.make("m", CONFIG, {"1/model.onnx": b"second"})
    assert len(list(place.iterdir())) == 2
    refused.remove()
    entry = overrides.entry(store, "m")
    assert entry.engine_file(entry.chosen_versions()[0]).read_bytes() == b"first"


def test_a_configuration_for_another_name_is_refused(overrides, store):
    override = overrides.make("m", '{"name": "other"}', {})
    with pytest.raises(ModelError, match=r"name: found 'other', expected .* 'm'"):
        override.entry(store)


@pytest.mark.parametrize("text", ["{", "[]", '{"max_batch_size": "many"}', '{"no_such_field": 1}'])
def test_what_is_no_configuration_is_refused(overrides, store, text):
    with pytest.raises(ModelError):
        overrides.make("m", text, {}).entry(store)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "1/../../evil", "", "1/mo\0del.onnx", "..", "a/b/../../../evil"]
)
def test_files_stay_in_their_folder(overrides, place, name):
    with pytest.raises(RequestError, match=r"expected a name such as 1/model.onnx"):
        overrides.make("m", CONFIG, {name: b""})
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("model", ["../../evil", "a/b", ".hidden", "", "..", "a\0b"])
def test_a_models_name_leads_nowhere_else(overrides, place, tmp_path, model):
    with pytest.raises(RequestError, match="failed to load"):
        overrides.make(model, CONFIG, {"1/model.onnx": b""})
    assert list(place.iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("files", [{"1": b"", "1/model.onnx": b""}, {"1/" + "x" * 300: b""}])
def test_files_that_cannot_be_written_leave_nothing(overrides, place, files):
    with pytest.raises(ModelError, match="the files of 'm' cannot be kept"):
        overrides.make("m", CONFIG, files)
    assert list(place.iterdir()) == []


def test_files_need_a_configuration(overrides):
    with pytest.raises(RequestError, match="override config is required"):
        overrides.make("m", None, {"1/model.onnx": b""})
