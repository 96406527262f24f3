"""CMake toolchain files: aarch64 Linux with a real compiler, QNX with one that only records its arguments."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from tests.requirements_of import need_program

pytestmark = pytest.mark.system

TOOLCHAINS = Path(__file__).resolve().parents[2] / "cross" / "toolchains"
LINUX, QNX = TOOLCHAINS / "aarch64-linux.cmake", TOOLCHAINS / "aarch64-qnx.cmake"
ELF_MACHINE_AARCH64 = 183

PROJECT = """\
cmake_minimum_required(VERSION 3.20)
project(hello CXX)
{target}
file(WRITE "${{CMAKE_BINARY_DIR}}/variables" "{variables}")
"""
HELLO = '#include <string>\n#include <cstdio>\nint main() { std::puts(std::string("hello").c_str()); }\n'

# Writes its own name and arguments down, and makes the file that -o names.
RECORDER = """\
#!/bin/sh
echo "${0##*/} $*" >> "$RECORD"
while [ $# -gt 0 ]; do [ "$1" != -o ] || { : > "$2"; break; }; shift; done
"""


def write_project(folder, target, *variables):
    folder.mkdir()
    lines = "".join(f"{name}=${{{name}}}\\n" for name in variables)
    (folder / "CMakeLists.txt").write_text(PROJECT.format(target=target, variables=lines))
    (folder / "hello.cpp").write_text(HELLO)
    return folder


def configure(project, toolchain, *settings, **environment):
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    return subprocess.run(
        [
            need_program("cmake", "cmake"),
            *("-S", project, "-B", project / "build", "--toolchain", toolchain, "-G", "Unix Makefiles"),
            *settings,
        ],
        capture_output=True,
        text=True,
        env={**kept, **{key: str(value) for key, value in environment.items()}},
        check=False,
        timeout=60,
    )


def refusal(done):
    """Return the error on one line, as CMake breaks it where it likes."""
    assert done.returncode != 0
    return " ".join(done.stderr.split())


def variables(project):
    lines = (project / "build" / "variables").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def executable(path, text=RECORDER):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class TestLinux:
    def test_builds_a_real_program_for_64_bit_arm(self, tmp_path):
        need_program("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")
        project = write_project(
            tmp_path / "hello",
            "add_executable(hello hello.cpp)",
            "CMAKE_SYSTEM_PROCESSOR",
            "CMAKE_CUDA_HOST_COMPILER",
        )
        done = configure(project, LINUX)
        assert done.returncode == 0, done.stderr
        subprocess.run(["cmake", "--build", project / "build"], check=True, capture_output=True, timeout=60)
        header = (project / "build" / "hello").read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", header, 18) == (ELF_MACHINE_AARCH64,)
        assert variables(project)["CMAKE_SYSTEM_PROCESSOR"] == "aarch64"
        assert Path(variables(project)["CMAKE_CUDA_HOST_COMPILER"]).name == "aarch64-linux-gnu-g++"

    def test_takes_the_compiler_and_the_sysroot_that_are_named(self, tmp_path):
        for name in ("gcc", "g++"):
            executable(tmp_path / "tools" / f"board-{name}")
        (tmp_path / "root" / "usr").mkdir(parents=True)
        project = write_project(
            tmp_path / "hello", "add_library(hello STATIC hello.cpp)", "CMAKE_CXX_COMPILER", "CMAKE_SYSROOT"
        )
        done = configure(
            project,
            LINUX,
            "-DCMAKE_CXX_COMPILER_FORCED=ON",
            EDGERT_CROSS_PREFIX=tmp_path / "tools" / "board-",
            EDGERT_SYSROOT=tmp_path / "root",
            RECORD=tmp_path / "record",
        )
        assert done.returncode == 0, done.stderr
        assert variables(project)["CMAKE_CXX_COMPILER"] == str(tmp_path / "tools" / "board-g++")
        assert variables(project)["CMAKE_SYSROOT"] == str(tmp_path / "root")

    def test_says_which_package_has_the_missing_compiler(self, tmp_path):
        done = configure(write_project(tmp_path / "hello", ""), LINUX, "-DEDGERT_CROSS_PREFIX=/nowhere/arm-")
        assert "There is no /nowhere/arm-gcc." in refusal(done)
        assert "apt-get install g++-aarch64-linux-gnu" in refusal(done)

    @pytest.mark.parametrize(
        ("variable", "problem"),
        [("EDGERT_SYSROOT", "it has no folder usr"), ("CUDA_ROOT", "there is no bin/nvcc in it")],
    )
    def test_refuses_a_folder_that_is_not_what_it_should_be(self, tmp_path, variable, problem):
        executable(tmp_path / "board-gcc")
        executable(tmp_path / "board-g++")
        project = write_project(tmp_path / "hello", "")
        done = configure(project, LINUX, f"-DEDGERT_CROSS_PREFIX={tmp_path}/board-", **{variable: tmp_path})
        assert f"{variable} is {tmp_path}" in refusal(done)
        assert problem in refusal(done)


@pytest.fixture
def sdk(tmp_path):
    """A QNX SDP and a CUDA toolkit of recorders: the environment that names them."""
    tools = tmp_path / "host" / "usr" / "bin"
    for version in ("7.1.0", "8.0.0"):
        for tool in ("gcc", "g++", "ar", "ranlib"):
            executable(tools / f"aarch64-unknown-nto-qnx{version}-{tool}")
    for driver in ("qcc", "q++"):
        executable(tools / driver)
    (tmp_path / "target").mkdir()
    for cuda in ("cuda-11.4", "cuda-13.0"):
        (tmp_path / cuda / "targets" / "aarch64-qnx").mkdir(parents=True)
    return {
        "QNX_HOST": tmp_path / "host",
        "QNX_TARGET": tmp_path / "target",
        "CUDA_ROOT": tmp_path / "cuda-11.4",
        "RECORD": tmp_path / "record",
    }


def build_for_qnx(tmp_path, environment):
    """Compile hello for QNX and return the recorded command."""
    project = write_project(tmp_path / "hello", "add_library(hello OBJECT hello.cpp)", "CMAKE_SYSTEM_VERSION")
    done = configure(project, QNX, "-DCMAKE_CXX_COMPILER_FORCED=ON", **environment)
    assert done.returncode == 0, done.stderr
    subprocess.run(
        ["cmake", "--build", project / "build"],
        check=True,
        capture_output=True,
        timeout=60,
        env={**os.environ, "RECORD": str(environment["RECORD"])},
    )
    (command,) = [line for line in environment["RECORD"].read_text().splitlines() if "hello.cpp" in line]
    return command.split(), variables(project)["CMAKE_SYSTEM_VERSION"]


class TestQnx:
    def test_cuda_11_4_goes_with_qnx_7_1(self, tmp_path, sdk):
        command, version = build_for_qnx(tmp_path, sdk)
        assert version == "7.1.0"
        assert command[0] == "aarch64-unknown-nto-qnx7.1.0-g++"
        assert {"-D__QNX__", "-D_QNX_SOURCE", "-DQNX=1", "-D_XOPEN_SOURCE=700"} <= set(command)
        assert f"{tmp_path}/cuda-11.4/targets/aarch64-qnx/include" in " ".join(command)

    def test_a_later_cuda_goes_with_qnx_8(self, tmp_path, sdk):
        command, version = build_for_qnx(tmp_path, {**sdk, "CUDA_ROOT": tmp_path / "cuda-13.0"})
        assert version == "8.0.0"
        assert command[0] == "aarch64-unknown-nto-qnx8.0.0-g++"
        assert "-D__QNX__" not in command

    def test_the_name_of_the_toolkit_decides_where_its_folder_is_called_otherwise(self, tmp_path, sdk):
        (tmp_path / "cuda-11.4").rename(tmp_path / "toolkit")
        _, version = build_for_qnx(tmp_path, {**sdk, "CUDA_ROOT": tmp_path / "toolkit", "CUDA": "cuda-12.8"})
        assert version == "8.0.0"

    def test_qnx_s_own_driver_is_told_the_target(self, tmp_path, sdk):
        project = write_project(
            tmp_path / "hello",
            "",
            "CMAKE_CXX_COMPILER",
            "CMAKE_CXX_COMPILER_TARGET",
            "CMAKE_C_COMPILER_TARGET",
        )
        done = configure(project, QNX, "-DCMAKE_CXX_COMPILER_FORCED=ON", **sdk, USE_QCC="ON")
        assert done.returncode == 0, done.stderr
        assert variables(project)["CMAKE_CXX_COMPILER"] == str(tmp_path / "host" / "usr" / "bin" / "q++")
        assert variables(project)["CMAKE_CXX_COMPILER_TARGET"] == "gcc_ntoaarch64le_cxx"
        assert variables(project)["CMAKE_C_COMPILER_TARGET"] == "gcc_ntoaarch64le"

    @pytest.mark.parametrize(
        ("variable", "text"),
        [
            ("QNX_HOST", "The environment variable QNX_HOST is not set"),
            ("QNX_TARGET", "The environment variable QNX_TARGET is not set"),
            ("CUDA_ROOT", "Neither CUDA nor CUDA_ROOT is set"),
        ],
    )
    def test_says_what_is_not_set_and_where_it_comes_from(self, tmp_path, sdk, variable, text):
        del sdk[variable]
        said = refusal(configure(write_project(tmp_path / "hello", ""), QNX, **sdk))
        assert text in said
        assert "under licence" in said

    def test_says_which_sdp_goes_with_the_toolkit(self, tmp_path, sdk):
        (tmp_path / "host" / "usr" / "bin" / "aarch64-unknown-nto-qnx7.1.0-g++").unlink()
        said = refusal(configure(write_project(tmp_path / "hello", ""), QNX, **sdk))
        assert "cuda-11.4 goes with QNX 7.1.0 (gcc 8.3.0)" in said

    def test_refuses_a_toolkit_that_is_not_for_qnx(self, tmp_path, sdk):
        (tmp_path / "cuda-11.4" / "targets" / "aarch64-qnx").rmdir()
        said = refusal(configure(write_project(tmp_path / "hello", ""), QNX, **sdk))
        assert "this toolkit is not for QNX" in said

    def test_refuses_a_name_that_tells_no_version(self, tmp_path, sdk):
        said = refusal(configure(write_project(tmp_path / "hello", ""), QNX, **sdk, CUDA="newest"))
        assert "'newest' does not name a CUDA toolkit" in said
