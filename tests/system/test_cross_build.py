"""Bundles of the real wheels, where an earlier build has left them in the cache: nothing is fetched."""

from __future__ import annotations

import lzma
import subprocess
import sys
import tarfile
from fnmatch import fnmatch

import pytest

from cross.build import build, bundle_names
from cross.collect import Where
from cross.layout import SITE
from cross.lock import TOOLS, lock_file, read_lock
from cross.native import check_natives
from cross.own_wheel import CHECKOUT
from cross.prune import UNREAD, unreached
from cross.target import read_target

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

CACHE = CHECKOUT / ".cache" / "cross"


def real_build(name, dist):
    """Build a target's bundle; skips the test unless all its wheels are in the cache."""
    pins = [*read_lock(lock_file(name)), *read_lock(lock_file(TOOLS))]
    missing = [
        pin
        for pin in pins
        if pin.distribution != "nvidia-cuda-nvrtc-cu12" and not (CACHE / pin.file_name).is_file()
    ]
    if missing:
        pytest.skip(f"{len(missing)} wheels are not in the cache; `make cross TARGET={name}` fetches them")
    return build(read_target(name), Where(dist, CACHE, offline=True))


def unpack(archive, folder):
    with lzma.open(archive) as packed, tarfile.open(fileobj=packed) as opened:
        opened.extractall(folder, filter="fully_trusted")
    (top,) = folder.iterdir()
    return top


@pytest.fixture(scope="module")
def arm64(tmp_path_factory):
    return real_build("debian-arm64", tmp_path_factory.mktemp("dist"))


def test_an_arm64_bundle_is_the_same_when_it_is_built_again(arm64, tmp_path):
    again = real_build("debian-arm64", tmp_path)
    assert [file.name for file in again] == [*bundle_names(read_target("debian-arm64"))]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in arm64]


def test_an_arm64_bundle_holds_nothing_that_is_not_read_and_nothing_that_does_not_fit(arm64, tmp_path):
    top = unpack(arm64[0], tmp_path)
    site = top / SITE
    assert unreached(site) == []
    names = [file.name for file in site.rglob("*") if not file.is_relative_to(site / "edgert")]
    assert [name for name in names if any(fnmatch(name, pattern) for pattern in UNREAD)] == []
    assert check_natives(site, read_target("debian-arm64")).files > 20
    subprocess.run(["sha256sum", "--quiet", "-c", "share/doc/edgert/SHA256SUMS"], cwd=top, check=True)
    licences = {folder.name.rpartition("-")[0] for folder in (top / "share/doc/edgert/licences").iterdir()}
    assert {"numpy", "onnxruntime", "opencv-python-headless", "edgert"} <= licences


def test_an_x86_64_bundle_runs_here_by_itself(tmp_path):
    if ".".join(map(str, sys.version_info[:2])) != read_target("x86_64").python:
        pytest.skip(f"the bundle is for Python {read_target('x86_64').python}")
    top = unpack(real_build("x86_64", tmp_path / "dist")[0], tmp_path / "somewhere")
    environment = {"PATH": "/usr/bin:/bin", "EDGERT_PYTHON": sys._base_executable}
    done = subprocess.run(
        [top / "bin" / "edgert", "doctor", "--run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Test passed!")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cv2, onnx, onnxruntime; print(cv2.__file__)"
    )
    done = subprocess.run(
        [sys._base_executable, "-I", "-c", program, top / SITE], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(top))
