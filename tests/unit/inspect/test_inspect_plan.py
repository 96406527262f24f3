"""`edgert inspect` on engine files of TensorRT."""

from __future__ import annotations

import json

import pytest

from edgert.errors import EngineMismatchError
from edgert.execute.engine import EngineDetails
from edgert.exit_codes import ExitCode
from edgert.inspect import inspect_path
from tests.fakes.boards import attributes_of
from tests.fakes.gpu import FakeGpu, put_gpu
from tests.fakes.plan_file import FakeEngine, FakeRuntime, add_manifest, write_plan
from tests.fakes.store import Site


@pytest.fixture
def gpu(monkeypatch):
    return put_gpu(monkeypatch, FakeGpu(attributes_of("orin")))


@pytest.fixture
def runtime(monkeypatch):
    return FakeRuntime().put(monkeypatch)


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path / "model.plan")


def inspect(capsys, path):
    """Return the exit code and the report."""
    code = inspect_path(path, as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_engine_that_runs_here_is_told_in_full(plan, gpu, runtime, capsys):
    add_manifest(plan)
    code, report = inspect(capsys, plan)
    assert (code, report["runs_here"]) == (ExitCode.OK, True)
    assert report["bytes"] == plan.stat().st_size
    assert report["header"]["family"] == "tensorrt"
    assert report["header"]["version"] == "10.3.0.30"
    assert report["manifest"]["precision"] == "fp16"
    assert report["manifest"]["compute_capabilities"] == ["8.7"]
    assert report["inputs"] == ["image float32 ?x3x8x8"]
    assert report["engine"] == {
        "weights_bytes": 12_582_912,
        "scratch_bytes": 2048,
        "profiles": [{"image": {"minimum": [1, 3, 8, 8], "optimum": [2, 3, 8, 8], "maximum": [4, 3, 8, 8]}}],
        "layers": [
            {
                "name": "conv1 + relu1",
                "kind": "CaskConvolution",
                "tactic": "sm80_xmma_fprop",
                "precision": "Half",
            },
            {"name": "pool1", "kind": "Reduce", "tactic": "", "precision": ""},
        ],
        "auxiliary_streams": 1,
        "is_refittable": True,
    }


def test_engine_and_gpu_are_given_back(plan, gpu, runtime, capsys):
    inspect(capsys, plan)
    assert runtime.engine.is_closed
    assert gpu.opened == 0


@pytest.mark.parametrize(("tag", "family"), [(b"ftrt", "tensorrt"), (b"vtrt", "tensorrt_rtx")])
@pytest.mark.parametrize("suffix", [".plan", ".engine", ".TRT"])
def test_runtime_follows_from_the_header(tmp_path, gpu, runtime, capsys, tag, family, suffix):
    file = write_plan(tmp_path / f"model{suffix}", tag=tag)
    assert inspect(capsys, file)[0] == ExitCode.OK
    assert runtime.asked == [(file, family, "Fake GPU")]


def test_engine_without_manifest_says_so(plan, gpu, runtime, capsys):
    assert inspect(capsys, plan)[1]["manifest"] is None


def test_engine_of_which_the_runtime_says_nothing_more_has_no_details(plan, gpu, monkeypatch, capsys):
    FakeRuntime(FakeEngine(details=EngineDetails())).put(monkeypatch)
    assert "engine" not in inspect(capsys, plan)[1]


def test_engine_for_another_device_is_told_with_header_and_reason(plan, gpu, monkeypatch, capsys):
    FakeRuntime(failure=EngineMismatchError("was built for compute 8.0")).put(monkeypatch)
    code, report = inspect(capsys, plan)
    assert (code, report["runs_here"]) == (ExitCode.MODEL, "was built for compute 8.0")
    assert report["header"]["version"] == "10.3.0.30"
    assert gpu.opened == 0


def test_without_a_gpu_header_and_manifest_are_told(plan, monkeypatch, runtime, capsys):
    put_gpu(monkeypatch, None)
    add_manifest(plan)
    code, report = inspect(capsys, plan)
    assert code == ExitCode.MODEL
    assert "pip install pycuda" in report["runs_here"]
    assert report["manifest"]["runtime_version"] == "10.3.0.30"
    assert runtime.asked == []


def test_damaged_engine_is_told_with_header_and_manifest_and_never_loaded(plan, gpu, runtime, capsys):
    add_manifest(plan)
    content = bytearray(plan.read_bytes())
    content[-1] ^= 1
    plan.write_bytes(content)
    code, report = inspect(capsys, plan)
    assert code == ExitCode.MODEL
    assert "damaged or was replaced" in report["runs_here"]
    assert report["header"]["family"] == "tensorrt"
    assert report["manifest"]["plan_bytes"] == plan.stat().st_size
    assert runtime.asked == []


def test_manifest_that_is_none_is_told_with_the_header(plan, gpu, runtime, capsys):
    plan.with_name("model.plan.manifest.json").write_text("{}")
    report = inspect(capsys, plan)[1]
    assert "not a manifest that edgert knows" in report["runs_here"]
    assert report["header"]["family"] == "tensorrt"


def test_model_tells_of_each_version_s_engine(tmp_path, gpu, runtime, capsys):
    site = Site(tmp_path)
    folder = site.add("plan", config='platform: "tensorrt_plan"\nversion_policy { all { } }\n', settings=None)
    write_plan(folder / "1" / "model.plan")
    (folder / "2").mkdir()
    (folder / "2" / "model.plan").write_bytes(b"x")
    code, report = inspect(capsys, folder)
    assert (code, report["runtime"], report["runs_here"]) == (ExitCode.MODEL, "tensorrt", False)
    assert report["versions"]["1"]["engine"]["weights_bytes"] == 12_582_912
    assert "not a TensorRT engine" in report["versions"]["2"]["runs_here"]


def test_model_of_which_a_version_has_no_engine_file_says_so(tmp_path, gpu, runtime, capsys):
    site = Site(tmp_path)
    folder = site.add("plan", config='platform: "tensorrt_plan"\nversion_policy { all { } }\n', settings=None)
    (folder / "1").mkdir(exist_ok=True)
    (folder / "2").mkdir()
    write_plan(folder / "2" / "model.plan")
    report = inspect(capsys, folder)[1]
    assert report["versions"]["2"]["runs_here"] is True
    assert str(folder / "1") in report["versions"]["1"]["runs_here"]


def test_text_has_the_layers_only_where_they_are_asked_for(plan, gpu, runtime, capsys):
    inspect_path(plan, as_json=False)
    short = capsys.readouterr().out.splitlines()
    assert "  weights_bytes: 12582912 (12.0 MiB)" in short
    assert "      image: 1x3x8x8 to 4x3x8x8, best 2x3x8x8" in short
    assert "  layers: 2 (--layers lists them)" in short
    assert "manifest: none" in short
    assert not any("conv1" in line for line in short)
    inspect_path(plan, as_json=False, with_layers=True)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("layers")
    assert lines[:start] == [*short, ""]
    assert lines[start + 1].split() == ["kind", "precision", "tactic", "name"]
    assert lines[start + 2] == "CaskConvolution  Half       sm80_xmma_fprop  conv1 + relu1"
    assert lines[start + 3].split() == ["Reduce", "pool1"]
