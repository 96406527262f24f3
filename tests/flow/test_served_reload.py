"""A core over a real store: what a reload leaves alone, whose mistake a load was, what is lost at the end."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from edgert.errors import ModelError, RequestError, UnavailableError, UnknownModelError
from edgert.frames.request import SequenceStep
from edgert.inference.repository import Repository
from tests.fakes.onnx_store import SIDE, add_chain, add_times, times
from tests.fakes.serving import core
from tests.fakes.waiting import answer, ask

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")

ONE = np.ones((1, SIDE), np.float32)
CONFIG = json.dumps({"platform": "onnxruntime_onnx", "max_batch_size": 2})


def ask_for(served, model):
    """Return what the model makes of 1."""
    return float(answer(served.infer, model, {"X": ONE})["Y"][0, 0])


@pytest.fixture
def loaded(monkeypatch):
    """Return a list that gets the name of every model that is loaded."""
    names, load = [], Repository.load

    def counted(self, entry):
        names.append(entry.name)
        load(self, entry)

    monkeypatch.setattr(Repository, "load", counted)
    return names


class TestReloadChanged:
    def test_what_is_as_it_was_is_left_alone_and_the_log_says_so(self, tmp_path, loaded, caplog):
        caplog.set_level("INFO")
        add_times(tmp_path, "a", 2)
        add_chain(tmp_path, "b", "a")
        with core(tmp_path) as served:
            served.reload_changed()
            assert loaded == ["a", "b"]
            assert ask_for(served, "b") == 2
        assert "not loaded again, as nothing of it has changed: a, b" in caplog.text

    @pytest.mark.parametrize(
        "file", ["config.pbtxt", "edgert.toml", "1/model.onnx", "1/words.txt", "2/model.onnx"]
    )
    def test_each_file_of_a_model_counts(self, tmp_path, loaded, file):
        folder = add_times(tmp_path, "a", 2)
        add_times(tmp_path, "b", 3)
        with core(tmp_path) as served:
            loaded.clear()
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(
                times(5) if path.suffix == ".onnx" else path.read_bytes() if path.exists() else b""
            )
            os.utime(path, ns=(1, 1))
            served.reload_changed()
            assert loaded == ["a"]
            assert ask_for(served, "a") == (5 if path.suffix == ".onnx" else 2)
            served.reload_changed()
            assert loaded == ["a"]

    def test_what_an_editor_or_python_leaves_behind_is_no_change(self, tmp_path, loaded):
        folder = add_times(tmp_path, "a", 2)
        with core(tmp_path) as served:
            (folder / ".config.pbtxt.swp").write_text("x")
            (folder / "__pycache__").mkdir()
            served.reload_changed()
            assert loaded == ["a"]

    def test_what_is_broken_stays_and_is_tried_again_until_it_is_right(self, tmp_path, loaded):
        file = add_times(tmp_path, "a", 2) / "1" / "model.onnx"
        (add_times(tmp_path, "b", 3) / "1" / "model.onnx").write_bytes(b"no graph")
        with core(tmp_path) as served:
            file.write_bytes(b"no graph")
            loaded.clear()
            for _ in range(2):
                served.reload_changed()
            assert loaded == ["a", "b"] * 2
            assert ask_for(served, "a") == 2
            file.write_bytes(times(7))
            add_times(tmp_path, "b", 3)
            served.reload_changed()
            assert (ask_for(served, "a"), ask_for(served, "b")) == (7, 3)
            served.reload_changed()
            assert loaded == ["a", "b"] * 3

    def test_models_of_steps_are_loaded_before_the_ensembles_that_need_what_is_new_of_them(
        self, tmp_path, loaded
    ):
        for name in ("c", "d"):
            add_times(tmp_path, name, 2)
        add_chain(tmp_path, "b", "c")
        add_chain(tmp_path, "a", "b", "d")
        with core(tmp_path) as served:
            assert ask_for(served, "a") == 4
            file = tmp_path / "c" / "config.pbtxt"
            made = times(3).replace(b"Y", b"Z")
            (tmp_path / "c" / "1" / "model.onnx").write_bytes(made)
            file.write_text(file.read_text().replace('"Y"', '"Z"'))
            add_chain(tmp_path, "b", ("c", "X", "Z"), "d")
            add_chain(tmp_path, "a", "b", rest='parameters { key: "new" value { string_value: "1" } }')
            loaded.clear()
            served.reload_changed()
            assert loaded == ["c", "b", "a"]
            assert ask_for(served, "a") == 6

    def test_an_ensemble_that_was_followed_before_its_step_is_loaded_with_that(self, tmp_path):
        folder = add_times(tmp_path, "b", 2)
        add_chain(tmp_path, "a", "b")
        with core(tmp_path, mode="poll") as served:
            add_chain(tmp_path, "a", ("b", "X", "Z"))
            with pytest.raises(ModelError, match="found key 'Z'"):
                served.reload("a")
            (folder / "1" / "model.onnx").write_bytes(times(3).replace(b"Y", b"Z"))
            file = folder / "config.pbtxt"
            file.write_text(file.read_text().replace('"Y"', '"Z"'))
            assert served.reload("b") == ["b", "a"]
            assert ask_for(served, "a") == 3

    def test_what_the_store_has_no_more_goes(self, tmp_path):
        folder = add_times(tmp_path, "a", 2)
        with core(tmp_path) as served:
            folder.rename(tmp_path / ".a")
            served.reload_changed()
            with pytest.raises(UnknownModelError):
                served.model_metadata("a")

    def test_what_a_client_loaded_stays_its_own(self, tmp_path, loaded):
        with core(tmp_path, mode="explicit") as served:
            served.load("new", CONFIG, {"1/model.onnx": times(7)})
            served.reload_changed()
            assert (loaded, ask_for(served, "new")) == (["new"], 7)


class TestWhoseMistake:
    @pytest.mark.parametrize(
        "config", ["{", '{"platform": "nosuch"}', '{"name": "b"}', '{"max_batch_size": -3}']
    )
    def test_a_configuration_that_was_sent_is_its_senders(self, tmp_path, config):
        add_times(tmp_path, "a", 2)
        with (
            core(tmp_path, mode="explicit") as served,
            pytest.raises(RequestError, match="failed to load 'a': "),
        ):
            served.load("a", config)

    def test_a_file_of_the_store_is_not(self, tmp_path):
        (add_times(tmp_path, "a", 2) / "config.pbtxt").write_text("max_batch_size: [")
        with (
            core(tmp_path, mode="explicit") as served,
            pytest.raises(ModelError, match="failed to load 'a': "),
        ):
            served.load("a")


@pytest.mark.parametrize(
    ("text", "is_taken"), [("a" * 128, True), ("é" * 64, True), ("a" * 129, False), ("é" * 65, False)]
)
def test_the_id_of_a_sequence_is_bounded(tmp_path, text, is_taken):
    add_times(tmp_path, "a", 2)
    with core(tmp_path) as served:
        if is_taken:
            assert ask(served.infer, "a", {"X": ONE}, sequence=SequenceStep(text)).final().error is None
        else:
            with pytest.raises(
                RequestError, match="string correlation ID cannot be longer than 128 characters"
            ):
                ask(served.infer, "a", {"X": ONE}, sequence=SequenceStep(text))


class TestBeforeTheStartIsOver:
    def test_models_that_are_to_be_loaded_are_told_from_unknown_ones(self, tmp_path):
        add_times(tmp_path, "a", 2)
        add_times(tmp_path, "b", 2)
        with core(tmp_path, mode="explicit", load=("a",)) as served:
            served._repository.unload("a", waits=True)
            served._repository._states.clear()
            served._has_begun = False
            for call in (served.model_metadata, served.model_config, served.statistics):
                with pytest.raises(UnavailableError, match="Model 'a' is loading"):
                    call("a")
            with pytest.raises(UnavailableError, match="Model 'a' is loading"):
                ask(served.infer, "a", {"X": ONE})
            assert not served.is_model_ready("a")
            for other in ("b", "gone"):
                with pytest.raises(UnknownModelError):
                    served.model_metadata(other)
            served.begin(["a"])
            assert ask_for(served, "a") == 2

    def test_one_that_could_not_be_loaded_is_unknown(self, tmp_path):
        (add_times(tmp_path, "a", 2) / "1" / "model.onnx").write_bytes(b"no graph")
        with core(tmp_path) as served:
            served._has_begun = False
            with pytest.raises(UnknownModelError, match="has no available versions"):
                served.model_metadata("a")
