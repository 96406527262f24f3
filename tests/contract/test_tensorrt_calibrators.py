"""edgert's calibrators, called through the real bindings of TensorRT 10 as its builder calls them.

The wheels are those of test_tensorrt_bindings. What the builder makes of it is not seen: that takes a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

from tests.contract.test_tensorrt_bindings import RELEASES, ROOT, STUB, fetch
from tests.requirements_of import go_without, need_program

pytestmark = pytest.mark.system

CALIBRATING = [each for each in RELEASES if each.runtime == "tensorrt" and each.version.startswith("10.")]
CACHE = "TRT-100300-EntropyCalibration2\nx: 3c010204\n"
# CalibrationAlgoType
NUMBERS = {"LegacyCalibration": 0, "EntropyCalibration": 1, "EntropyCalibration2": 2, "MinMaxCalibration": 3}

every_release = pytest.mark.parametrize("release", CALIBRATING, ids=[each.version for each in CALIBRATING])


@every_release
@pytest.mark.parametrize("algorithm", NUMBERS)
def test_it_takes_batches_and_gives_a_cache(release, algorithm):
    seen = call(release)["algorithms"][algorithm]
    assert seen["algorithm"] == NUMBERS[algorithm]
    assert seen["batch_size"] == seen["batches"] == 2
    assert seen["read"] is None
    assert seen["values"] == [[[0.5] * 6, [0, 1]], [[1.5] * 6, [0, 0]]]
    assert seen["after"] is None
    assert seen["written"] == CACHE


@every_release
def test_the_legacy_one_has_cutoffs_and_no_histogram_cache(release):
    seen = call(release)["algorithms"]["LegacyCalibration"]
    assert seen["cutoffs"] == [0.9999, 1.0]
    assert seen["histogram"] is None


@every_release
def test_a_cache_goes_in_again(release):
    assert call(release)["reused"] == CACHE


@every_release
def test_ctrl_c_within_a_callback_ends_the_frames_and_comes_out(release):
    seen = call(release)["failed"]
    assert seen == {"given": [True, False, False], "raised": "Ctrl-C", "stopped": 1, "written": False}


@every_release
def test_a_recipe_gives_frames_to_one_build_and_their_cache_to_the_next(release):
    seen = call(release)["route"]
    batches, read = seen["given"]
    assert batches == [[0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 2, 2]]  # the last one is filled up
    assert read == CACHE.replace("EntropyCalibration2", "MinMaxCalibration")
    assert "tensorrt.cache, which an earlier run made of 3 frames" in seen["note"]


@cache
def call(release):
    """Return what `tensorrt_calibration` says of a release, or skip the test naming what is missing."""
    compiler = need_program("cc", "gcc")
    wheel = fetch(release)
    if isinstance(wheel, str):
        go_without(wheel)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(wheel, folder, release.libraries, compiler)
        done = subprocess.run(
            [sys.executable, "-m", "tests.fakes.tensorrt_calibration"],
            env={**os.environ, "PYTHONPATH": f"{name}:{ROOT}", "LD_LIBRARY_PATH": name},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unpack(wheel, folder, libraries, compiler):
    """Put the bindings into a folder, with a front end as TensorRT has and stubs of its libraries."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    own = "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    (folder / "tensorrt.py").write_text(own)
    for library in libraries:
        source = STUB if library == libraries[0] else "/dev/null"
        command = [compiler, "-shared", "-fPIC", "-x", "c", source, "-o", folder / library]
        subprocess.run(command, check=True)
