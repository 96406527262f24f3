"""What `edgert inspect` tells of an INT8 model's accuracy."""

from __future__ import annotations

import datetime
import json

import pytest

from edgert.exit_codes import ExitCode
from edgert.inspect import inspect_path
from edgert.models.calibration_record import CalibrationRecord, record_path, write_record
from edgert.models.manifest import SourceModel, sha256_of
from tests.fakes import store
from tests.fakes.boards import attributes_of
from tests.fakes.gpu import FakeGpu, put_gpu
from tests.fakes.plan_file import FakeRuntime, write_plan
from tests.fakes.store import Site


def add_record(file):
    record = CalibrationRecord(
        sha256=sha256_of(file),
        source=SourceModel("coco.onnx", "0" * 64),
        made_utc=datetime.datetime(2026, 11, 22, tzinfo=datetime.timezone.utc),
        edgert="0.1.0",
        method="mse",
        layers_int8=17,
        layers_float=("head",),
        verdict="within limits",
        held_out_frames=100,
        against_fp32={"recall": 0.989},
        measured="here",
    )
    write_record(file, record)


@pytest.fixture
def model(tmp_path):
    return Site(tmp_path).add("mean", store.mean_model())


def inspect(capsys, path):
    code = inspect_path(path, as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_a_version_and_its_file_tell_of_their_accuracy(model, capsys):
    file = model / "1" / "model.onnx"
    add_record(file)
    told = inspect(capsys, model)[1]["versions"]["1"]["calibration"]
    assert told == inspect(capsys, file)[1]["calibration"]
    assert told["against_fp32"] == {"recall": 0.989}
    assert (told["layers_int8"], told["layers_float"], told["held_out_frames"]) == (17, ["head"], 100)
    assert not {"schema", "sha256"} & set(told)
    inspect_path(model, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert "      layers_float: head" in lines
    assert "        recall: 0.989" in lines


def test_an_engine_of_tensorrt_does_too(tmp_path, monkeypatch, capsys):
    put_gpu(monkeypatch, FakeGpu(attributes_of("orin")))
    FakeRuntime().put(monkeypatch)
    folder = Site(tmp_path).add("plan", config='platform: "tensorrt_plan"\n', settings=None)
    add_record(write_plan(folder / "1" / "model.plan"))
    code, report = inspect(capsys, folder)
    assert code == ExitCode.OK
    assert report["versions"]["1"]["calibration"]["verdict"] == "within limits"
    assert report["versions"]["1"]["manifest"] is None


def test_a_record_of_another_file_does_not_count(model, capsys):
    file = model / "1" / "model.onnx"
    add_record(file)
    file.write_bytes(file.read_bytes() + b"\n\x00")
    told = inspect(capsys, model)[1]["versions"]["1"]["calibration"]
    assert told == "none: the record beside it is of another file than model.onnx"


@pytest.mark.parametrize("content", [b"{}", b"\xff", b"x" * (2 << 20)])
def test_a_damaged_record_is_told_and_harms_nothing(model, capsys, content):
    record_path(model / "1" / "model.onnx").write_bytes(content)
    code, report = inspect(capsys, model)
    assert code == ExitCode.OK
    assert report["versions"]["1"]["calibration"].startswith("none: ")
    assert "model.onnx.calibration.json" in report["versions"]["1"]["calibration"]
