"""What lets a calibration take its earlier results, and what does not."""

from __future__ import annotations

import io

import cv2
import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from edgert import __version__
from edgert.calibrate import run
from edgert.calibrate.choose import Choice
from edgert.calibrate.progress import StageProgress
from edgert.calibrate.recipe import InstallOptions, load_recipe
from edgert.calibrate.report.summary import TOOLS
from edgert.calibrate.sample.sample_set import SampleFrame, SampleSet
from edgert.calibrate.setting import open_setting
from edgert.calibrate.work import WorkFolder
from tests.fakes.recipe import RecipeSite

CHOICE = Choice(method="mse", amax={"image": 1.0}, kept={})


def samples(*held_out):
    frames = tuple(SampleFrame(f"{each}.png", each * 64, "x", 0) for each in held_out)
    return SampleSet((), (), frames, 0, "reservoir", 9)


@pytest.fixture
def calibration(tmp_path):
    site = RecipeSite(tmp_path)
    setting = open_setting(load_recipe(site.recipe()))
    (tmp_path / "int8").write_bytes(b"a model")
    progress = StageProgress("tiny-int8", io.StringIO())
    return run._Calibration(setting, WorkFolder(tmp_path), progress)


def test_the_versions_of_all_that_calculates_are_in_the_keys():
    libraries = onnxruntime, onnx, np, cv2
    assert (__version__, *(each.__version__ for each in libraries)) == TOOLS


def test_a_report_is_of_what_was_observed(calibration, tmp_path):
    found = [
        calibration._report_key(samples("a"), CHOICE, tmp_path / "int8", observed)
        for observed in (b"1", b"1", b"2")
    ]
    assert found[0] == found[1] != found[2]


def test_an_engine_is_of_model_frames_and_tensorrt(calibration, tmp_path, monkeypatch):
    options = InstallOptions(runtime="tensorrt", calibrator="entropy2")

    def key(version="10.3.0", observed=b"1", held_out="a", **changed):
        monkeypatch.setattr(run, "runtime_version", lambda _: version)
        wanted = msgspec.structs.replace(options, **changed)
        return calibration._delivered_key(wanted, tmp_path / "int8", samples(held_out), observed)

    assert key() == key()
    others = key("10.4.0"), key(observed=b"2"), key(held_out="b"), key(calibrator="minmax")
    assert len({key(), *others}) == 5
