"""`cross check`: what is there, what is missing, where it comes from, and the exit code."""

from __future__ import annotations

import argparse
import json

import pytest
from msgspec.structs import replace

from cross import check
from cross.check import Place, find_nvcc
from cross.check_finding import State, find_program
from cross.pycuda import cuda_pins
from cross.pycuda_compile import SDIST
from cross.target import read_target
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode

NVCC = """#!/bin/sh
case $1 in
  --version) echo "Cuda compilation tools, release {version}, V{version}.88" ;;
  --list-gpu-code) printf 'sm_87\\nsm_110\\n' ;;
esac
"""


@pytest.fixture
def programs(tmp_path):
    """Return an environment whose PATH is one folder, and a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def put(name, text="#!/bin/sh\necho 'tool 1.2.3'\n"):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
        return folder / name

    return {"PATH": str(folder)}, put


def by_name(findings):
    return {finding.what: finding for finding in findings}


class TestPrograms:
    def test_tells_version_and_path(self, programs):
        environment, put = programs
        path = put("cmake")
        assert find_program(environment, "cmake", "--version", r"(\d+\.\d+)") == f"1.2, {path}"

    @pytest.mark.parametrize("text", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho none\n", "no program"])
    def test_what_does_not_answer_is_not_there(self, programs, text):
        environment, put = programs
        put("cmake", text)
        assert find_program(environment, "cmake", "--version", r"(\d+\.\d+)") is None

    def test_what_is_not_on_the_path_is_not_there(self, programs):
        assert find_program(programs[0], "cmake", "--version", r"(\d+\.\d+)") is None


class TestNvcc:
    def test_says_what_it_refuses(self, programs):
        environment, put = programs
        put("nvcc", NVCC.format(version="13.0"))
        finding = find_nvcc(environment, "11.0", State.MISSING)
        assert finding.state is State.THERE
        assert "refuses sm_72 (Xavier) and sm_101" in finding.said

    def test_is_missing_for_a_device_that_it_does_not_compile_for(self, programs):
        environment, put = programs
        put("nvcc", NVCC.format(version="13.0"))
        finding = find_nvcc(environment, "7.2", State.MISSING)
        assert finding.state is State.MISSING
        assert "does not compile for sm_72 (Xavier)" in finding.said

    def test_another_version_is_named(self, programs):
        environment, put = programs
        path = put("nvcc", NVCC.format(version="12.6"))
        finding = find_nvcc(environment, "8.7", State.MISSING)
        assert finding.state is State.MISSING
        assert f"{path} is another version" in finding.said

    def test_is_not_needed_where_the_image_is_compiled(self, programs):
        assert find_nvcc(programs[0], "8.7", State.OPTIONAL).state is State.OPTIONAL


class TestKernels:
    def test_an_image_of_other_sources_is_not_taken(self, tmp_path, monkeypatch):
        monkeypatch.setattr(check.compile_kernels, "SOURCES", tmp_path)
        (tmp_path / "kernels.cu").write_text("now")
        stamp = check.compile_kernels.stamp()
        (tmp_path / "kernels.fatbin").write_bytes(b"image " + stamp.encode())
        assert check.compiled_image("kernels.fatbin", tmp_path) == tmp_path / "kernels.fatbin"
        (tmp_path / "kernels.cu").write_text("later")
        assert check.compiled_image("kernels.fatbin", tmp_path) is None


@pytest.fixture
def sysroot(tmp_path):
    """A root with what pycuda is compiled against on JetPack 6."""
    root = tmp_path / "root"
    for name in ("usr/include/python3.10/Python.h", "usr/lib/aarch64-linux-gnu/libc.so.6"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    return root


class TestPycuda:
    target = read_target("jetson-orin-jp6")

    def check(self, programs, tmp_path, sysroot=None):
        return by_name(check.check(self.target, Place(programs[0], tmp_path / "cache", sysroot)))

    def test_without_a_root_the_board_compiles_and_no_compiler_is_needed(self, programs, tmp_path):
        found = self.check(programs, tmp_path)
        assert found["root file system of the board"].state is State.OPTIONAL
        assert "the board does, once" in found["root file system of the board"].said
        assert found["aarch64-linux-gnu-g++"].state is State.OPTIONAL
        assert not any(finding.state is State.MISSING for finding in found.values())

    def test_with_a_root_the_compiler_is_needed(self, programs, tmp_path, sysroot):
        found = self.check(programs, tmp_path, sysroot)
        assert found["aarch64-linux-gnu-g++"].state is State.MISSING
        assert "apt-get install g++-aarch64-linux-gnu" in found["aarch64-linux-gnu-g++"].said
        programs[1]("aarch64-linux-gnu-g++")
        assert self.check(programs, tmp_path, sysroot)["aarch64-linux-gnu-g++"].state is State.THERE

    def test_a_root_with_all_parts_is_right(self, programs, tmp_path, sysroot):
        found = self.check(programs, tmp_path, sysroot)
        assert found["Python 3.10 headers in the root"].state is State.THERE
        assert found["C library for aarch64 in the root"].state is State.THERE

    def test_a_root_without_headers_or_of_another_machine_is_not(self, programs, tmp_path):
        (tmp_path / "empty").mkdir()
        found = self.check(programs, tmp_path, tmp_path / "empty")
        assert "Install libpython3.10-dev into that root" in found["Python 3.10 headers in the root"].said
        assert found["C library for aarch64 in the root"].state is State.MISSING

    def test_what_the_cache_has_is_not_fetched(self, programs, tmp_path, sysroot):
        what = "headers of CUDA and NumPy, aarch64"
        found = self.check(programs, tmp_path, sysroot)
        assert (found[what].state, found["pycuda's source"].state) == (State.FETCHED, State.FETCHED)
        assert "nvidia-cuda-runtime-cu12 12.6.77" in found[what].said
        (tmp_path / "cache").mkdir()
        for name in (SDIST, *(pin.file_name for pin in cuda_pins(self.target))):
            (tmp_path / "cache" / name).touch()
        found = self.check(programs, tmp_path, sysroot)
        assert (found[what].state, found["pycuda's source"].state) == (State.THERE, State.THERE)

    def test_a_target_without_a_gpu_needs_none_of_it(self, programs, tmp_path):
        target = read_target("debian-arm64")
        assert not any("pycuda" in f.what for f in check.check(target, Place(programs[0], tmp_path)))


class TestWheels:
    def test_a_target_without_a_lock_says_how_to_make_one(self, programs, tmp_path):
        target = replace(read_target("debian-arm64"), name="new-board")
        finding = by_name(check.check(target, Place(programs[0], tmp_path)))["wheels"]
        assert finding.state is State.MISSING
        assert finding.said.endswith("python -m cross lock new-board")


def run(*words):
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(words))


class TestCommand:
    @pytest.fixture(autouse=True)
    def bare_machine(self, programs, monkeypatch):
        for name in ("QNX_HOST", "QNX_TARGET", "CUDA", "CUDA_ROOT", "USE_QCC"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", programs[0]["PATH"])

    def test_what_is_missing_is_named_last_and_is_an_exit_code(self, capsys):
        assert run("drive-qnx") == ExitCode.OUTSIDE
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("drive-qnx: ")
        assert lines[-1].startswith("Missing: QNX_HOST, QNX_TARGET, CUDA for QNX")

    def test_all_there_is_exit_code_0(self, capsys, tmp_path):
        assert run("debian-arm64", "--cache", str(tmp_path)) == ExitCode.OK
        assert "All that debian-arm64 needs is there" in capsys.readouterr().out

    def test_json_says_the_same(self, capsys):
        assert run("drive-qnx", "--json") == ExitCode.OUTSIDE
        answer = json.loads(capsys.readouterr().out)
        assert (answer["target"], answer["complete"]) == ("drive-qnx", False)
        assert {"what": "CMake", "state": "missing", "said": "apt-get install cmake"} in answer["findings"]

    def test_an_unknown_target_is_refused(self):
        with pytest.raises(ConfigError, match="no target 'drive-qmx'; did you mean 'drive-qnx'"):
            run("drive-qmx")
