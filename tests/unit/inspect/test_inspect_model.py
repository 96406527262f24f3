"""`edgert inspect`: what is in a model, and whether it runs here."""

from __future__ import annotations

import json

import pytest

from edgert.cli import main
from edgert.exit_codes import ExitCode
from tests.fakes import store
from tests.fakes.onnx_store import add_chain, add_times, tensor
from tests.fakes.python_model import DOUBLE, write_model
from tests.fakes.store import EXACT, Site


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def inspect(capsys, path):
    """Return the exit code and the report."""
    code = main(["inspect", str(path), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_model_shows_its_tensors_versions_and_settings(site, capsys):
    config = "version_policy { all { } }\ninstance_group [ { count: 2 } ]\nresponse_cache { enable: true }\n"
    settings = EXACT + '[decode]\nkind = "classify"\ntop_k = 3\n'
    for version in (1, 2):
        folder = site.add("mean", store.mean_model(), version=version, config=config, settings=settings)
    code, report = inspect(capsys, folder)
    assert code == ExitCode.OK
    tensors = {"runs_here": True, "inputs": ["image float32 ?x3x8x8"], "outputs": ["mean float32 ?x3"]}
    assert report["versions"] == {"1": tensors, "2": tensors}
    assert (report["model"], report["runtime"], report["lanes"]) == ("mean", "onnxruntime", 2)
    assert report["versions_present"] == [1, 2]
    assert report["settings"]["decode"]["top_k"] == 3
    [warning] = report["warnings"]
    assert "response_cache is followed for requests only" in warning


def test_text_is_one_line_a_fact(site, capsys):
    folder = site.add("mean", store.mean_model())
    assert main(["inspect", str(folder)]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["model: mean", "runtime: onnxruntime", "lanes: 1"]
    assert "    inputs: image float32 ?x3x8x8" in lines
    assert lines[-1] == "runs_here: True"


def test_who_asks_an_onnx_model_for_its_layers_is_told(site, capsys):
    folder = site.add("mean", store.mean_model())
    for path in (folder, folder / "1" / "model.onnx"):
        assert main(["inspect", str(path), "--layers"]) == ExitCode.OK
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == "layers: onnxruntime tells none; --layers is for plans of TensorRT"


def test_engine_file_alone(site, capsys):
    file = site.add("mean", store.mean_model()) / "1" / "model.onnx"
    code, report = inspect(capsys, file)
    assert (code, report["runtime"], report["runs_here"]) == (ExitCode.OK, "onnxruntime", True)
    assert (report["file"], report["bytes"]) == (str(file), file.stat().st_size)
    assert report["outputs"] == ["mean float32 ?x3"]


def test_model_that_computes_nothing(site, capsys):
    code, report = inspect(capsys, site.add_noop())
    assert (code, report["versions"]["1"]["inputs"]) == (ExitCode.OK, ["image uint8 ?x8x8x3"])


def test_folder_may_be_given_relative_and_with_a_slash(site, capsys, monkeypatch):
    monkeypatch.chdir(site.add("mean", store.mean_model()))
    assert inspect(capsys, ".")[1]["model"] == "mean"
    assert inspect(capsys, "../mean/")[1]["model"] == "mean"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.onnx", b"no engine", "not a usable ONNX file"),
        ("model.plan", b"x", "not a TensorRT engine"),
        ("model.bin", b"x", ".bin is no engine file that edgert knows"),
        ("model", b"x", "a file without suffix is no engine file that edgert knows"),
    ],
)
def test_file_that_does_not_run_here_says_why(tmp_path, capsys, name, content, said):
    (tmp_path / name).write_bytes(content)
    code, report = inspect(capsys, tmp_path / name)
    assert code == ExitCode.MODEL
    assert said in report["runs_here"]


def test_model_of_which_one_version_does_not_run_here_says_which(site, capsys):
    site.add("mean", store.mean_model(), config="version_policy { all { } }\n")
    code, report = inspect(capsys, site.add("mean", b"no engine", version=2))
    assert (code, report["runs_here"]) == (ExitCode.MODEL, False)
    assert report["versions"]["1"]["runs_here"] is True
    assert "not a usable ONNX file" in report["versions"]["2"]["runs_here"]


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [("absent", ExitCode.CONFIG, "no such file or folder"), (".", ExitCode.MODEL, "its folder has neither")],
)
def test_path_that_is_no_model_is_an_error(site, capsys, path, code, said):
    assert main(["inspect", str(site.store / path)]) == code
    assert said in capsys.readouterr().err


def test_model_with_wrong_settings_is_an_error(site, capsys):
    assert main(["inspect", str(site.add("mean", store.mean_model(), settings="[x]\n"))]) == ExitCode.CONFIG
    assert "unknown key 'x'" in capsys.readouterr().err


def test_ensemble_shows_its_tensors_and_steps(site, capsys):
    add_times(site.store, "a", 2)
    add_times(site.store, "b", 3)
    code, report = inspect(capsys, add_chain(site.store, "both", "a", "b"))
    assert (code, report["runs_here"], report["platform"]) == (ExitCode.OK, True, "ensemble")
    assert (report["inputs"], report["outputs"]) == (["X float32 ?x4"], ["Y float32 ?x4"])
    first, second = report["steps"]
    assert first == {"model": "a", "version": "newest", "inputs": ["X from X"], "outputs": ["Y to t1"]}
    assert (second["model"], second["inputs"]) == ("b", ["X from t1"])


def test_ensemble_that_cannot_be_served_says_why(site, capsys):
    add_times(site.store, "a", 2)
    ensemble = add_chain(site.store, "both", "a", "gone")
    code, report = inspect(capsys, ensemble)
    assert code == ExitCode.MODEL
    assert "found 'gone', expected a model of the store" in report["runs_here"]
    (add_times(site.store, "gone", 2) / "1" / "model.onnx").write_bytes(b"no graph")
    assert "not a usable ONNX file" in inspect(capsys, ensemble)[1]["runs_here"]


def test_model_in_python_is_told_nothing_of_what_only_frames_need(site, capsys):
    folder = write_model(site.store, DOUBLE).parent
    sides = " ".join(f"{side} [{tensor(name, 2)}]" for side, name in (("input", "x"), ("output", "y")))
    (folder / "config.pbtxt").write_text(f'backend: "python" max_batch_size: 4 {sides}')
    code, report = inspect(capsys, folder)
    assert (code, report["warnings"], sorted(report["settings"])) == (ExitCode.OK, [], ["engine", "labels"])
    (folder / "edgert.toml").write_text(EXACT)
    _, report = inspect(capsys, folder)
    assert report["settings"]["prepare"]["fit"] == "stretch"
    assert "there is no [decode]" in report["warnings"][0]
