"""`edgert build` on a device: the engine is run against its model before it is activated."""

from __future__ import annotations

import argparse

import numpy as np
import pytest

from edgert.build.arguments import add_build
from edgert.errors import ModelError
from edgert.exit_codes import ExitCode
from edgert.models.manifest import read_manifest
from edgert.models.store import ModelStore

pytestmark = pytest.mark.gpu
for package in ("tensorrt_rtx", "onnx", "onnxruntime", "cv2"):
    pytest.importorskip(package)

SETTINGS = '[engine]\nruntime = "tensorrt_rtx"\n[prepare]\nfit = "stretch"\n[decode]\nkind = "classify"\n'


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store" / "best"
    folder.mkdir(parents=True)
    (folder / "edgert.toml").write_text(SETTINGS)
    return tmp_path / "store"


@pytest.fixture
def run(tmp_path, store):
    """Return a function that runs `edgert build` on a small classifier with pictures."""
    import cv2

    from edgert.build.command import run_build
    from tests.fakes.onnx_graphs import convolution, save

    model = save(tmp_path, convolution())
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 255, (3, 3, 3), np.uint8)
        cv2.imwrite(str(pictures / f"{seed}.png"), cv2.resize(noise, (40, 30)))

    def built(*options):
        parser = argparse.ArgumentParser("edgert build")
        add_build(parser)
        words = [model, "--store", store, "--frames", pictures, *options]
        return run_build(parser.parse_args([str(word) for word in words]))

    return built


def agreement(store, version=1):
    return read_manifest(store / "best" / str(version) / "model.plan").agreement


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_is_near_its_model(run, store, precision):
    assert run("--name", "best", "--precision", precision, "--batch", "1,4") == ExitCode.OK
    found = agreement(store)
    assert (found["made"], found["near"], found["pictures"]) == (True, True, 5)
    assert found["outputs"][0]["cosine"] > 0.999
    assert found["agreement"]["share"] == 1.0


def test_an_engine_of_one_batch_size_is_compared_too(run, store):
    assert run("--name", "best", "--batch", "4", "--engine-per-batch") == ExitCode.OK
    plan = store / "best-b4" / "1" / "model.plan"
    assert read_manifest(plan).agreement["near"]


def test_an_engine_that_is_too_far_off_is_not_activated(run, store):
    with pytest.raises(ModelError, match=r"the engine is too far from .* It was not activated"):
        run("--name", "best", "--precision", "fp16", "--tolerance", "0")
    assert ModelStore(store).entry("best").versions() == ()
    assert run("--name", "best", "--precision", "fp16", "--tolerance", "0", "--force") == ExitCode.OK
    assert agreement(store)["near"] is False


def test_it_may_be_compared_later(run, store):
    assert run("--name", "best", "--batch", "4") == ExitCode.OK
    assert run("--compare", "best", "--tolerance", "0.01") == ExitCode.OK
    assert agreement(store)["limits"]["cosine_min"] == 0.99
