"""`edgert build --rollback` and `--compare`, on models of the host."""

from __future__ import annotations

import argparse
import datetime
import json

import cv2
import numpy as np
import pytest

from edgert.build.arguments import add_build
from edgert.build.command import run_build
from edgert.build.onnx_file import read_onnx
from edgert.build.precision import to_fp16
from edgert.errors import ConfigError, DeviceError, ModelError
from edgert.exit_codes import ExitCode
from edgert.models.manifest import Manifest, SourceModel, read_manifest, sha256_of, write_manifest
from tests.fakes.onnx_graphs import convolution, save
from tests.fakes.store import Site

SETTINGS = '[prepare]\nfit = "stretch"\n[decode]\nkind = "classify"\n'


def run(*words):
    parser = argparse.ArgumentParser("edgert build")
    add_build(parser)
    return run_build(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), np.uint8)
        cv2.imwrite(str(folder / f"{seed}.png"), noise)
    return folder


@pytest.fixture
def source(site):
    """A model, and in the store as version 2 the same in FP16, with a manifest."""
    path = save(site.folder, convolution(), "source.onnx")
    half = to_fp16(read_onnx(path)).message()
    site.add("best", convolution().SerializeToString(), settings=SETTINGS)
    site.add("best", half, version=2, settings=SETTINGS)
    engine = site.store / "best" / "2" / "model.onnx"
    manifest = Manifest(
        plan_sha256=sha256_of(engine),
        plan_bytes=engine.stat().st_size,
        runtime="tensorrt",
        runtime_version="10.3.0",
        built_utc=datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        source=SourceModel("source.onnx", sha256_of(path)),
        precision="fp16",
    )
    write_manifest(engine, manifest)
    return path


def test_a_roll_back_says_what_it_has_done(site, source, capsys):
    assert run("--rollback", "best", "--store", site.store) == ExitCode.OK
    said = capsys.readouterr().out
    assert "best: version 1 is the newest again, 2 is now 2.rolled-back" in said
    assert f"to undo: mv {site.store}/best/2.rolled-back {site.store}/best/2" in said
    with pytest.raises(ModelError, match="has version 1, expected one before it"):
        run("--rollback", "best", "--store", site.store)


def test_a_roll_back_can_be_read_by_a_program(site, source, capsys):
    run("--rollback", "best", "--store", site.store, "--json")
    assert json.loads(capsys.readouterr().out) == {
        "model": "best",
        "rolled_back": 2,
        "active": 1,
        "folder": "2.rolled-back",
    }


def test_a_comparison_is_written_into_the_manifest(site, source, pictures, capsys):
    code = run(source, "--compare", "best", "--store", site.store, "--frames", pictures)
    assert code == ExitCode.OK
    said = capsys.readouterr().out
    assert said.startswith("best 2:\n  near onnxruntime in 3 pictures\n    logits: cosine ")
    assert "best class: 100.0% of 3 agree" in said
    agreement = read_manifest(site.store / "best" / "2" / "model.onnx").agreement
    assert (agreement["made"], agreement["near"], agreement["pictures"]) == (True, True, 3)
    assert agreement["limits"]["cosine_min"] == 0.999


def test_an_engine_that_is_too_far_off_is_said_with_its_remedy(site, source, pictures, capsys):
    words = (source, "--compare", "best", "--store", site.store, "--frames", pictures)
    assert run(*words, "--tolerance", "0", "--json") == ExitCode.MODEL
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["version"], found["near"]) == ("best", 2, False)
    assert run(*words, "--tolerance", "0") == ExitCode.MODEL
    assert f"to go back: edgert build --rollback best --store {site.store}" in capsys.readouterr().out


def test_a_comparison_is_with_the_model_that_was_built(site, source, pictures):
    other = save(site.folder, convolution(seed=1), "other.onnx")
    with pytest.raises(ModelError, match=r"the engine was built from source.onnx with .* Give that file"):
        run(other, "--compare", "best", "--store", site.store, "--frames", pictures)


def test_a_comparison_needs_a_model_and_pictures(site, source):
    with pytest.raises(ConfigError, match=r"--compare best: expected MODEL.onnx too"):
        run("--compare", "best", "--store", site.store)
    with pytest.raises(ConfigError, match="--compare best: no pictures were given"):
        run(source, "--compare", "best", "--store", site.store)


def test_a_comparison_of_an_engine_for_a_gpu_needs_one(site, source, pictures, monkeypatch):
    from edgert.build import agreement
    from edgert.device.board import CudaDriverProbe

    monkeypatch.setattr(agreement.obstacle, "__defaults__", (lambda: CudaDriverProbe(None, "none"),))
    site.add("plan", settings='[engine]\nruntime = "tensorrt_rtx"\n')
    with pytest.raises(DeviceError, match="--compare plan: this machine has no GPU"):
        run(source, "--compare", "plan", "--store", site.store, "--frames", pictures)
