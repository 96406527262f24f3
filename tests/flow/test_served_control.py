"""A core over a real store: loads, unloads, overrides, ensembles, versions, and what clients are told."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgert.errors import (
    DeviceLostError,
    EdgertError,
    ModelError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.inference.open_version import Opener
from tests.fakes.onnx_store import SIDE, add_chain, add_times, times
from tests.fakes.serving import core
from tests.fakes.waiting import answer, ask

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")

ONE = np.ones((1, SIDE), np.float32)
CONFIG = json.dumps(
    {
        "platform": "onnxruntime_onnx",
        "max_batch_size": 2,
        "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [SIDE]}],
        "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [SIDE]}],
    }
)


def ask_for(served, model, **options):
    """Return what the model makes of 1."""
    return float(answer(served.infer, model, {"X": ONE}, **options)["Y"][0, 0])


def states(served):
    return {(entry.name, entry.version): entry.state for entry in served.index()}


def wait_for(question):
    deadline = time.monotonic() + 10
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestStart:
    def test_mode_none_loads_all_and_lets_nobody_change_that(self, tmp_path):
        add_times(tmp_path, "a", 2)
        add_chain(tmp_path, "b", "a", "a")
        with core(tmp_path) as served:
            assert served.is_ready()
            assert (ask_for(served, "a"), ask_for(served, "b")) == (2, 4)
            for change in (served.load, served.unload):
                with pytest.raises(UnsupportedError, match=r'serve.mode is "none"'):
                    change("a")

    def test_a_broken_model_keeps_no_other_from_being_served_but_readiness(self, tmp_path):
        add_times(tmp_path, "a", 2)
        (add_times(tmp_path, "b", 2) / "1" / "model.onnx").write_bytes(b"no graph")
        with core(tmp_path) as served:
            assert ask_for(served, "a") == 2
            assert not served.is_ready()
            assert states(served) == {("a", "1"): "READY", ("b", "1"): "UNAVAILABLE"}
            [broken] = [entry for entry in served.index() if entry.name == "b"]
            assert "not a usable ONNX file" in broken.reason

    @pytest.mark.parametrize("mode", ["none", "explicit", "poll"])
    def test_a_start_can_insist_on_every_model(self, tmp_path, mode):
        (add_times(tmp_path, "b", 2) / "1" / "model.onnx").write_bytes(b"no graph")
        load = ("b",) if mode == "explicit" else ()
        with (
            pytest.raises(ModelError, match="not a usable ONNX file"),
            core(tmp_path, mode=mode, load=load, exit_on_error=True) as served,
        ):
            served.begin(["b"])

    def test_explicit_begins_with_what_is_named_or_nothing(self, tmp_path):
        add_times(tmp_path, "a", 2)
        add_times(tmp_path, "b", 3)
        with core(tmp_path, mode="explicit") as served:
            assert served.is_ready()
            assert states(served) == {("a", ""): "", ("b", ""): ""}
        with core(tmp_path, mode="explicit", load=("b",)) as served:
            assert [served.is_model_ready(name) for name in "ab"] == [False, True]
        with core(tmp_path, mode="explicit", load=("*",)) as served:
            assert [served.is_model_ready(name) for name in "ab"] == [True, True]

    def test_a_lost_device_ends_the_start_whatever_the_options(self, tmp_path, monkeypatch):
        add_times(tmp_path, "a", 2)

        def lose(*_):
            raise DeviceLostError("gone")

        monkeypatch.setattr(Opener, "open", lose)
        with pytest.raises(DeviceLostError), core(tmp_path):
            pass


class TestLoad:
    def test_a_model_that_is_not_in_the_store_is_unknown(self, tmp_path):
        add_times(tmp_path, "door", 2)
        with core(tmp_path, mode="explicit") as served:
            for name in ("doors", "../door", ""):
                with pytest.raises(UnknownModelError, match="failed to load"):
                    served.load(name)
            with pytest.raises(UnknownModelError, match="failed to unload 'nope'"):
                served.unload("nope")
            assert states(served) == {("door", ""): ""}

    def test_what_cannot_be_loaded_leaves_what_is_served(self, tmp_path):
        folder = add_times(tmp_path, "a", 2)
        with core(tmp_path, mode="explicit", load=("a",)) as served:
            (folder / "1" / "model.onnx").write_bytes(b"no graph")
            with pytest.raises(ModelError, match=r"failed to load 'a': .*not a usable ONNX file"):
                served.load("a")
            assert ask_for(served, "a") == 2
            (folder / "config.pbtxt").write_text("max_batch_size: [")
            with pytest.raises(ModelError, match="failed to load 'a'"):
                served.load("a")
            assert (ask_for(served, "a"), served.is_ready()) == (2, True)

    def test_a_new_engine_in_the_same_file_is_served_after_the_next_load(self, tmp_path):
        folder = add_times(tmp_path, "a", 2)
        with core(tmp_path, mode="explicit", load=("a",)) as served:
            (folder / "1" / "model.onnx").write_bytes(times(5))
            assert ask_for(served, "a") == 2
            served.load("a")
            assert ask_for(served, "a") == 5

    def test_an_override_serves_until_the_model_is_loaded_again(self, tmp_path):
        add_times(tmp_path, "a", 2)
        with core(tmp_path, mode="explicit", load=("a",)) as served:
            served.load("a", CONFIG)
            assert served.model_config("a").max_batch_size == 2
            served.load("a", CONFIG, {"3/model.onnx": times(7)})
            assert (ask_for(served, "a"), served.model_metadata("a").versions) == (7, ("3",))
            served.load("a")
            assert (ask_for(served, "a"), served.model_metadata("a").versions) == (2, ("1",))

    def test_a_failed_override_leaves_the_earlier_one(self, tmp_path):
        add_times(tmp_path, "a", 2)
        with core(tmp_path, mode="explicit", load=("a",)) as served:
            served.load("a", CONFIG, {"1/model.onnx": times(7)})
            for config, files in (("{", {}), (CONFIG, {"1/model.onnx": b"no graph"}), ('{"name": "b"}', {})):
                with pytest.raises(RequestError, match="failed to load 'a'"):
                    served.load("a", config, files)
            assert ask_for(served, "a") == 7
            served.reload("a")  # what SIGHUP does
            assert ask_for(served, "a") == 7

    def test_a_model_of_a_client_needs_no_store_and_outlives_a_reload(self, tmp_path):
        with core(tmp_path, mode="explicit") as served:
            served.load("new", CONFIG, {"1/model.onnx": times(7)})
            served.reload("new")
            assert ask_for(served, "new") == 7
            served.unload("new")
            with pytest.raises(UnknownModelError):
                served.load("new")

    def test_private_folders_go_with_the_core(self, tmp_path, monkeypatch):
        place = tmp_path / "private"
        place.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with core(tmp_path, mode="explicit") as served:
            served.load("new", CONFIG, {"1/model.onnx": times(7)})
            assert len(list(place.iterdir())) == 1
        assert list(place.iterdir()) == []

    def test_an_optional_input_that_the_engine_needs_is_refused_when_it_lacks(self, tmp_path):
        folder = add_times(tmp_path, "a", 2)
        text = (folder / "config.pbtxt").read_text()
        (folder / "config.pbtxt").write_text(text.replace('name: "X"', 'name: "X" optional: true'))
        with core(tmp_path) as served, pytest.raises(RequestError, match="missing required input"):
            ask(served.infer, "a", {})

    def test_labels_are_those_of_the_load_and_a_missing_file_of_them_fails_it(self, tmp_path):
        folder = add_times(tmp_path, "a", 2)
        text = (folder / "config.pbtxt").read_text()
        (folder / "config.pbtxt").write_text(
            text.replace('name: "Y"', 'name: "Y" label_filename: "labels.txt"')
        )
        add_chain(tmp_path, "e", "a")
        with core(tmp_path, mode="explicit") as served:
            with pytest.raises(ModelError, match=r"label_filename = 'labels.txt'.*no such file"):
                served.load("a")
            (folder / "labels.txt").write_text("cat\ndog\n")
            served.load("e")
            (folder / "labels.txt").unlink()
            assert served.labels("a", 0, "Y") == ("cat", "dog")
            assert served.labels("e", 1, "Y") == ("cat", "dog")  # of the step that makes it
            assert served.labels("a", 0, "other") == ()


class TestVersions:
    @pytest.fixture
    def store(self, tmp_path):
        def write(policy):
            for version in (1, 2, 10):
                add_times(tmp_path, "a", version, version, f"version_policy {{ {policy} }}")
            return tmp_path

        return write

    @pytest.mark.parametrize(
        ("policy", "served_versions"),
        [
            ("latest { num_versions: 1 }", (10,)),
            ("latest { num_versions: 2 }", (2, 10)),
            ("all { }", (1, 2, 10)),
            ("specific { versions: [1, 2] }", (1, 2)),
        ],
    )
    def test_the_policy_says_which_and_the_newest_answers(self, store, policy, served_versions):
        with core(store(policy)) as served:
            assert served.model_metadata("a").versions == tuple(map(str, served_versions))
            assert ask_for(served, "a") == max(served_versions)
            for version in served_versions:
                assert ask_for(served, "a", version=version) == version
            counted = {one.version: one.inference_count for one in served.statistics("a")}
            assert counted == {str(v): 1 + (v == max(served_versions)) for v in served_versions}
            with pytest.raises(UnknownModelError, match="version 7 is not found"):
                ask_for(served, "a", version=7)
            assert not served.is_model_ready("a", 7)

    def test_a_version_that_is_not_there_says_which_are(self, store):
        with core(store("specific { versions: [1, 3] }")) as served:
            assert not served.is_ready()
            [entry] = served.index()
            assert "found 3, expected versions that are present: 1, 2, 10" in entry.reason

    def test_states_follow_the_policy(self, store):
        folder = store("all { }")
        with core(folder, mode="explicit", load=("a",)) as served:
            store("latest { num_versions: 1 }")
            served.load("a")
            wait_for(
                lambda: (
                    states(served)
                    == {("a", "1"): "UNAVAILABLE", ("a", "2"): "UNAVAILABLE", ("a", "10"): "READY"}
                )
            )
            served.unload("a")
            assert not served.is_model_ready("a")
            wait_for(lambda: states(served) == {("a", "10"): "UNAVAILABLE"})


class TestEnsembles:
    @pytest.fixture
    def store(self, tmp_path):
        add_times(tmp_path, "two", 2)
        add_times(tmp_path, "three", 3)
        add_chain(tmp_path, "six", "two", "three")
        add_chain(tmp_path, "twelve", "six", "two")
        return tmp_path

    def test_a_load_brings_the_steps_of_steps(self, store):
        with core(store, mode="explicit") as served:
            served.load("twelve")
            assert ask_for(served, "twelve") == 12
            assert {name for name, _ in states(served)} == {"six", "three", "twelve", "two"}

    def test_a_step_that_is_unloaded_fails_requests_and_readiness_until_it_is_back(self, store):
        with core(store, mode="explicit", load=("twelve",)) as served:
            served.unload("three")
            assert not served.is_model_ready("twelve")
            assert not served.is_ready()
            with pytest.raises(UnavailableError, match=r"in ensemble 'twelve', in ensemble 'six', .*'three'"):
                ask_for(served, "twelve")
            served.load("three")
            assert (served.is_ready(), ask_for(served, "twelve")) == (True, 12)

    def test_the_index_and_the_log_say_which_model_an_ensemble_lacks(self, store, caplog):
        with core(store, mode="explicit", load=("twelve",)) as served:
            served.unload("three")
            lacking = {e.name: e.reason for e in served.index() if e.state == "UNAVAILABLE" and e.reason}
            told = "needs 'three', which is not loaded"
            assert {name: lacking.get(name) for name in ("six", "twelve")} == {"six": told, "twelve": told}
            assert not {"six", "twelve"} & {entry.name for entry in served.index(only_ready=True)}
            for name in ("six", "twelve"):
                assert f"model {name} answers no more: it needs three, which was unloaded" in caplog.text
            served.load("three")
            assert states(served)["twelve", "1"] == "READY"

    def test_dependents_go_unless_somebody_else_needs_them(self, store):
        with core(store, mode="explicit", load=("twelve",)) as served:
            served.unload("twelve", with_dependents=True)
            assert not any(served.is_model_ready(name) for name in ("two", "three", "six", "twelve"))
            served.load("six")
            served.load("twelve")
            served.unload("twelve")
            assert all(served.is_model_ready(name) for name in ("two", "three", "six"))
            add_chain(store, "nine", "three", "three")
            served.load("nine")
            served.unload("six", with_dependents=True)
            assert [served.is_model_ready(name) for name in ("two", "three", "nine")] == [False, True, True]

    def test_a_step_reloaded_while_requests_come_fails_none(self, store):
        with core(store, mode="explicit", load=("twelve",)) as served:
            stop = threading.Event()
            found, errors = [], []

            def send():
                while not stop.is_set():
                    try:
                        found.append(ask_for(served, "twelve"))
                    except EdgertError as error:
                        errors.append(error)

            senders = [threading.Thread(target=send) for _ in range(2)]
            for sender in senders:
                sender.start()
            for _ in range(15):
                served.load("three")
                served.load("two")
            stop.set()
            for sender in senders:
                sender.join(10)
            assert errors == []
            assert set(found) == {12.0}

    def test_requests_under_way_still_have_their_steps_when_all_are_unloaded(self, store):
        (store / "two" / "config.pbtxt").write_text(
            (store / "two" / "config.pbtxt").read_text()
            + "dynamic_batching { max_queue_delay_microseconds: 300000 }"
        )
        with core(store, mode="explicit", load=("six",)) as served:
            asked = ask(served.infer, "six", {"X": ONE})  # waits in the first step
            served.unload("six", with_dependents=True)
            np.testing.assert_array_equal(asked.final().outputs["Y"], ONE * 6)
            assert not served.is_model_ready("three")

    def test_requests_under_way_go_through_all_steps_while_the_server_stops(self, store):
        (store / "two" / "config.pbtxt").write_text(
            (store / "two" / "config.pbtxt").read_text()
            + "dynamic_batching { max_queue_delay_microseconds: 200000 }"
        )
        with core(store, load=(), mode="none") as served:
            asked = ask(served.infer, "six", {"X": ONE})
            served.stop()
            with pytest.raises(UnavailableError, match="stopping"):
                ask(served.infer, "six", {"X": ONE})
            np.testing.assert_array_equal(asked.final().outputs["Y"], ONE * 6)

    def test_a_circle_through_models_that_are_served_is_refused(self, store):
        with core(store, mode="explicit", load=("twelve",)) as served:
            add_chain(store, "two", "twelve")
            with pytest.raises(ModelError, match=r"step\[0\].model_name: 'twelve' needs 'two' itself"):
                served.load("two")
            assert ask_for(served, "twelve") == 12

    def test_a_circle_of_new_models_is_refused(self, tmp_path):
        add_chain(tmp_path, "a", "b")
        add_chain(tmp_path, "b", "a")
        with (
            core(tmp_path, mode="explicit") as served,
            pytest.raises(ModelError, match=r"'a' needs 'b' itself|'b' needs 'a' itself"),
        ):
            served.load("a")

    def test_what_is_wrong_with_a_step_is_said_with_its_place(self, store):
        add_chain(store, "e", "gone")
        add_chain(store, "f", ("two", "X", "Z"))
        with core(store, mode="explicit") as served:
            with pytest.raises(ModelError, match=r"e/config.pbtxt: .*step\[0\].model_name: Model 'gone'"):
                served.load("e")
            with pytest.raises(ModelError, match=r"f/config.pbtxt: .*step\[0\].output_map: found key 'Z'"):
                served.load("f")
            text = (store / "six" / "config.pbtxt").read_text()
            (store / "six" / "config.pbtxt").write_text(
                text.replace("model_version: -1", "model_version: 9", 1)
            )
            with pytest.raises(ModelError, match=r"step\[0\].model_version: found 9, 'two' serves 1"):
                served.load("six")


class TestPoll:
    """Followed with a short period; changes count once they were the same in two looks."""

    @pytest.fixture
    def followed(self, tmp_path):
        store = tmp_path / "store"
        store.mkdir()
        with core(store, mode="poll", poll_s=0.1, follows=True) as served:
            yield store, served

    def test_models_come_change_break_are_mended_and_go_while_requests_come(self, followed):
        store, served = followed
        add_times(store, "a", 2)
        wait_for(lambda: served.is_model_ready("a"))
        errors, stop = [], threading.Event()

        def send():
            while not stop.is_set():
                try:
                    ask_for(served, "a")
                except EdgertError as error:
                    errors.append(error)

        sender = threading.Thread(target=send)
        sender.start()
        add_times(store, "a", 5, version=2)
        wait_for(lambda: ask_for(served, "a") == 5)
        text = (store / "a" / "config.pbtxt").read_text()
        (store / "a" / "config.pbtxt").write_text("max_batch_size: [")
        time.sleep(0.4)
        (store / "a" / "config.pbtxt").write_text(text + " parameters { }")
        add_times(store, "a", 7, version=3)
        wait_for(lambda: ask_for(served, "a") == 7)
        stop.set()
        sender.join(10)
        assert errors == []
        (store / "a").rename(store.parent / "away")
        wait_for(lambda: not served.is_model_ready("a"))

    def test_a_version_that_is_still_written_is_not_loaded(self, followed):
        store, served = followed
        add_times(store, "a", 2)
        wait_for(lambda: served.is_model_ready("a"))
        part = store / "a" / "2" / "model.onnx"
        part.parent.mkdir()
        content = times(9)
        with part.open("wb") as file:
            for start in range(0, len(content), 8):
                file.write(content[start : start + 8])
                file.flush()
                time.sleep(0.02)
            assert served.model_metadata("a").versions == ("1",)
            assert served.index() == [type(served.index()[0])("a", "1", "READY")]
        wait_for(lambda: served.model_metadata("a").versions == ("2",))
        assert ask_for(served, "a") == 9

    def test_an_ensemble_waits_for_a_step_that_is_not_whole_and_comes_with_it(self, followed):
        store, served = followed
        add_chain(store, "e", "step")
        (store / "step" / "1").mkdir(parents=True)
        with (store / "step" / "1" / "model.onnx").open("wb") as file:
            wait_for(lambda: ("e", "") in states(served) and states(served)[("e", "")] == "UNAVAILABLE")
            [entry] = [entry for entry in served.index() if entry.name == "e"]
            assert "'step' is not served; waits until it is" in entry.reason
            assert not served.is_ready()
            file.write(times(3))
        add_times(store, "step", 3)
        wait_for(served.is_ready)
        assert ask_for(served, "e") == 3

    def test_a_model_whose_files_are_mended_is_loaded(self, followed):
        store, served = followed
        file = add_times(store, "a", 2) / "1" / "model.onnx"
        file.write_bytes(b"no graph")
        wait_for(lambda: states(served).get(("a", "1")) == "UNAVAILABLE")
        Path(file).write_bytes(times(4))
        wait_for(served.is_ready)
        assert ask_for(served, "a") == 4


def test_loads_and_unloads_in_a_storm_fail_no_request_of_another_model_and_leave_nothing(tmp_path):
    for name in ("a", "b"):
        add_times(tmp_path, name, 2)
    with core(tmp_path, mode="explicit", load=("a", "b")) as served:
        wrong, stop = [], threading.Event()

        def send(model, allowed):
            while not stop.is_set():
                try:
                    if ask_for(served, model) != 2:
                        wrong.append("answer")
                except allowed:
                    continue
                except EdgertError as error:
                    wrong.append(error)

        gone = (UnknownModelError, UnavailableError)
        senders = [
            threading.Thread(target=send, args=given) for given in (("a", ()), ("b", gone), ("b", gone))
        ]
        for sender in senders:
            sender.start()
        for _ in range(15):
            served.load("a")
            served.unload("b")
            served.load("b")
        stop.set()
        for sender in senders:
            sender.join(10)
        assert wrong == []
        assert served.is_ready()
