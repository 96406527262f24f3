"""What native code for QNX needs, by the variables of the SDP and the DRIVE SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

from cross.check_finding import State
from cross.check_qnx import cuda_of, find_qnx, qnx_version, uses_qcc


@pytest.fixture
def sdk(tmp_path):
    """A complete SDK of empty files; the environment that names it."""
    tools = tmp_path / "host" / "usr" / "bin"
    tools.mkdir(parents=True)
    names = ("qcc", "q++", "aarch64-unknown-nto-qnx7.1.0-gcc", "aarch64-unknown-nto-qnx7.1.0-g++")
    for name in names:
        (tools / name).touch()
    (tmp_path / "target").mkdir()
    (tmp_path / "cuda-11.4" / "targets" / "aarch64-qnx").mkdir(parents=True)
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "NvInfer.h").touch()
    cmake = tmp_path / "bin" / "cmake"
    cmake.parent.mkdir()
    cmake.write_text("#!/bin/sh\necho 'cmake version 3.25.1'\n")
    cmake.chmod(0o755)
    return {
        "PATH": str(tmp_path / "bin"),
        "QNX_HOST": str(tmp_path / "host"),
        "QNX_TARGET": str(tmp_path / "target"),
        "CUDA_ROOT": str(tmp_path / "cuda-11.4"),
    }


def missing(environment, tmp_path):
    found = find_qnx(environment, tmp_path / "tensorrt")
    return {finding.what: finding.said for finding in found if finding.state is State.MISSING}


def test_a_complete_sdk_lacks_nothing(sdk, tmp_path):
    assert missing(sdk, tmp_path) == {}


def test_qcc_is_looked_for_where_it_is_asked_for(sdk, tmp_path):
    (tmp_path / "host" / "usr" / "bin" / "q++").unlink()
    assert missing(sdk, tmp_path) == {}
    assert list(missing({**sdk, "USE_QCC": "ON"}, tmp_path)) == ["q++"]


def test_the_compilers_of_another_sdp_are_not_those_of_the_toolkit(sdk, tmp_path):
    gone = missing({**sdk, "CUDA": "cuda-13.0"}, tmp_path)
    assert list(gone) == ["aarch64-unknown-nto-qnx8.0.0-gcc", "aarch64-unknown-nto-qnx8.0.0-g++"]
    assert "cuda-13.0 goes with QNX 8.0.0" in gone["aarch64-unknown-nto-qnx8.0.0-g++"]


@pytest.mark.parametrize(
    ("name", "value", "what", "text"),
    [
        ("QNX_HOST", "", "QNX_HOST", "the variable is not set"),
        ("QNX_TARGET", "/nowhere", "QNX_TARGET", "/nowhere is not there"),
        ("CUDA_ROOT", "", "CUDA for QNX", "neither CUDA nor CUDA_ROOT is set"),
        ("CUDA_ROOT", "/nowhere/cuda-11.4", "CUDA for QNX", "there is no /nowhere/cuda-11.4/targets"),
        ("CUDA", "newest", "CUDA for QNX", "'newest' names no version"),
    ],
)
def test_what_is_not_right_is_said_with_its_source(sdk, tmp_path, name, value, what, text):
    assert text in missing({**sdk, name: value}, tmp_path)[what]


def test_missing_headers_and_cmake_are_said(sdk, tmp_path):
    (tmp_path / "tensorrt" / "NvInfer.h").unlink()
    gone = missing({**sdk, "PATH": "/nowhere"}, tmp_path)
    assert gone["CMake"] == "apt-get install cmake"
    assert "under licence from NVIDIA" in gone["TensorRT's headers for QNX"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CUDA": "cuda-11.4"}, ("cuda-11.4", Path("/usr/local/cuda-11.4"))),
        ({"CUDA_ROOT": "/opt/cuda-13.0"}, ("cuda-13.0", Path("/opt/cuda-13.0"))),
        ({"CUDA": "cuda-12.8", "CUDA_ROOT": "/opt/cuda"}, ("cuda-12.8", Path("/opt/cuda"))),
        ({}, ("", None)),
    ],
)
def test_either_variable_names_the_toolkit(environment, expected):
    assert cuda_of(environment) == expected


def test_versions_go_by_the_toolkit():
    assert qnx_version("cuda-11.4") == ("7.1.0", "8.3.0")
    assert qnx_version("cuda-12.8") == ("8.0.0", "12.2.0")


@pytest.mark.parametrize(("value", "expected"), [("ON", True), ("1", True), ("off", False), ("0", False)])
def test_use_qcc_is_read_as_cmake_reads_it(value, expected):
    assert uses_qcc({"USE_QCC": value}) is expected
