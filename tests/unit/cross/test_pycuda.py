"""Providing pycuda: as source, or compiled by a compiler that here only records its arguments."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from cross import pycuda, pycuda_compile
from cross.errors import BundleError, CrossError
from cross.pycuda import SCRIPT, cuda_pins, fetch_sdist, provide, write_wheel
from cross.pycuda_compile import SDIST, VERSION, CompileError, Tools, compile_modules, install, main, unpack
from cross.target import Board, read_target
from edgert.errors import ConfigError

TARGET = read_target("jetson-orin-jp6")
SOURCES = (
    *("src/cpp/cuda.cpp", "src/cpp/bitlog.cpp", "src/wrapper/wrap_cudadrv.cpp", "src/wrapper/mempool.cpp"),
    *("src/wrapper/_pvt_struct_v3.cpp", "src/wrapper/wrap_cudagl.cpp", "src/wrapper/wrap_curand.cpp"),
    "bpl-subset/bpl_subset/libs/python/src/object.cpp",
    "bpl-subset/bpl_subset/libs/system/src/error_code.cpp",
    "bpl-subset/bpl_subset/libs/thread/src/pthread/thread.cpp",
    "bpl-subset/bpl_subset/libs/thread/src/pthread/once_atomic.cpp",
    "bpl-subset/bpl_subset/libs/thread/src/win32/thread.cpp",
    "bpl-subset/bpl_subset/libs/thread/src/future.cpp",
)
PACKAGE = ("pycuda/__init__.py", "pycuda/driver.py", "pycuda/cuda/helpers.hpp", "pycuda/gl/autoinit.py")

# Writes its arguments down, and makes the file that -o names.
RECORDER = """\
#!/bin/sh
echo "$*" >> {record}
while [ $# -gt 0 ]; do [ "$1" != -o ] || {{ : > "$2"; break; }}; shift; done
"""


@pytest.fixture
def sdist(tmp_path, monkeypatch):
    """A source as pycuda's is laid out, in place of the pinned one."""
    file = tmp_path / "cache" / SDIST
    file.parent.mkdir()
    with tarfile.open(file, "w:gz") as archive:
        for name in (*SOURCES, *PACKAGE, "PKG-INFO", "LICENSE"):
            entry = tarfile.TarInfo(f"pycuda-{VERSION}/{name}")
            archive.addfile(entry, io.BytesIO(b""))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for module in (pycuda, pycuda_compile):
        monkeypatch.setattr(module, "SDIST_SHA256", digest)
    return file


@pytest.fixture
def tools(tmp_path):
    """A recorder, and headers of which nothing but the names is looked at."""
    compiler, headers = tmp_path / "board-g++", tmp_path / "headers"
    compiler.write_text(RECORDER.format(record=tmp_path / "record"))
    compiler.chmod(0o755)
    for name in ("cuda.h", "cudaProfiler.h", "numpy/arrayobject.h", "Python.h"):
        (headers / name).parent.mkdir(parents=True, exist_ok=True)
        (headers / name).touch()
    return Tools(str(compiler), (headers,), ".so", (tmp_path / "last",))


class TestPins:
    def test_the_version_is_that_of_the_lock(self):
        locked = Path(__file__).parents[3].joinpath("requirements.lock").read_text()
        assert f"\npycuda=={VERSION}\n" in locked

    def test_headers_go_by_the_board_s_cuda(self):
        names = [pin.file_name for pin in cuda_pins(TARGET)]
        assert any(name.startswith("nvidia_cuda_runtime_cu12-12.6") for name in names)
        names = [pin.file_name for pin in cuda_pins(read_target("jetson-thor-jp7"))]
        assert any(name.startswith("nvidia_cuda_runtime-13.0") for name in names)
        with pytest.raises(ConfigError, match=r"CUDA 12 and 13, not 11\.4"):
            cuda_pins(replace(TARGET, board=Board(cuda="11.4")))


class TestProvide:
    def test_without_a_root_the_source_and_its_script_go_in(self, sdist, tmp_path):
        files = provide(TARGET, None, tmp_path / "out", cache=sdist.parent, offline=True)
        assert [file.name for file in files] == [SDIST, "pycuda_compile.py"]
        assert files[0].read_bytes() == sdist.read_bytes()
        assert files[1].read_bytes() == SCRIPT.read_bytes()

    def test_a_root_without_python_s_headers_is_refused_before_anything_is_fetched(self, tmp_path):
        with pytest.raises(ConfigError, match=re.escape("usr/include/python3.10/Python.h. Install")):
            provide(TARGET, tmp_path, tmp_path / "out", cache=tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_another_file_under_the_source_s_name_is_refused(self, tmp_path):
        (tmp_path / SDIST).write_bytes(b"another")
        with pytest.raises(BundleError, match="is not the pinned"):
            fetch_sdist(tmp_path)

    def test_offline_fetches_nothing(self, tmp_path):
        with pytest.raises(CrossError, match="--offline forbids fetching: pycuda"):
            fetch_sdist(tmp_path, offline=True)


class TestCompile:
    def compile(self, sdist, tools, tmp_path):
        folder = tmp_path / "work"
        folder.mkdir()
        source = unpack(sdist, folder)
        return source, compile_modules(source, tools, folder)

    def commands(self, tmp_path):
        return (tmp_path / "record").read_text().splitlines()

    def test_compiles_what_posix_needs_and_neither_opengl_nor_curand(self, sdist, tools, tmp_path):
        self.compile(sdist, tools, tmp_path)
        compiled = {match[1] for line in self.commands(tmp_path) if (match := re.search(r"-c (\S+)", line))}
        left_out = {name for name in SOURCES if re.search("cudagl|curand|once_atomic|win32|future", name)}
        assert compiled == set(SOURCES) - left_out

    def test_the_driver_s_library_is_needed_though_only_a_stub_is_here(self, sdist, tools, tmp_path):
        _, (driver, struct) = self.compile(sdist, tools, tmp_path)
        (stub,) = [line for line in self.commands(tmp_path) if "-soname" in line]
        assert "-Wl,-soname,libcuda.so.1" in stub
        (link,) = [line for line in self.commands(tmp_path) if line.endswith(str(driver))]
        assert "--no-as-needed" in link
        assert str(driver.parent.parent / "objects" / "libcuda.so") in link
        (link,) = [line for line in self.commands(tmp_path) if line.endswith(str(struct))]
        assert "libcuda" not in link

    def test_places_do_not_get_into_the_files(self, sdist, tools, tmp_path):
        self.compile(sdist, tools, tmp_path)
        compiling = [line for line in self.commands(tmp_path) if " -c " in line]
        assert compiling
        assert all("-c src/" in line or "-c bpl-subset/" in line for line in compiling)
        assert all("--build-id=none" in line for line in self.commands(tmp_path) if "-pthread -s" in line)

    @pytest.mark.parametrize("header", ["cuda.h", "cudaProfiler.h", "numpy/arrayobject.h", "Python.h"])
    def test_a_missing_header_is_named_with_its_package(self, sdist, tools, tmp_path, header):
        (tools.includes[0] / header).unlink()
        with pytest.raises(CompileError, match=f"{header} is missing; it comes with"):
            self.compile(sdist, tools, tmp_path)

    @pytest.mark.parametrize(
        ("compiler", "package"), [("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"), ("g++", "g++")]
    )
    def test_a_missing_compiler_is_named_with_its_package(
        self, sdist, tools, tmp_path, monkeypatch, compiler, package
    ):
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(
            CompileError, match=re.escape(f"There is no {compiler}: apt-get install {package}")
        ):
            self.compile(sdist, tools._replace(compiler=compiler), tmp_path)

    def test_what_the_compiler_says_is_told(self, sdist, tools, tmp_path):
        Path(tools.compiler).write_text("#!/bin/sh\necho 'cuda.cpp:1: no such thing' >&2\nexit 1\n")
        with pytest.raises(CompileError, match=r"cuda\.cpp:1: no such thing"):
            self.compile(sdist, tools, tmp_path)

    def test_another_source_is_refused(self, tmp_path):
        (tmp_path / SDIST).write_bytes(b"another")
        with pytest.raises(CompileError, match="expected 7595161606"):
            unpack(tmp_path / SDIST, tmp_path)

    def test_opengl_is_left_out_of_what_is_installed(self, sdist, tools, tmp_path):
        source, modules = self.compile(sdist, tools, tmp_path)
        install(source, modules, tmp_path / "site")
        names = {file.relative_to(tmp_path / "site").as_posix() for file in (tmp_path / "site").rglob("*.*")}
        assert {"pycuda/driver.py", "pycuda/_driver.so", "pycuda/_pvt_struct.so"} <= names
        assert not any("gl" in Path(name).parts for name in names)


class TestOnTheBoard:
    def test_compiles_into_the_folder_of_modules(self, sdist, tools, tmp_path, capsys):
        headers = tools.includes[0]
        (tmp_path / "cuda").mkdir()
        (tmp_path / "cuda" / "include").symlink_to(headers)
        numpy = tmp_path / "site" / "numpy" / "core" / "include"
        numpy.parent.mkdir(parents=True)
        numpy.symlink_to(headers)
        words = [str(sdist), "--into", str(tmp_path / "site"), "--cuda", str(tmp_path / "cuda")]
        assert main([*words, "--compiler", tools.compiler]) == 0
        assert list((tmp_path / "site" / "pycuda").glob("_driver.cpython-*.so"))
        assert f"-I{numpy}" in (tmp_path / "record").read_text()
        assert f"pycuda {VERSION} is in" in capsys.readouterr().out

    def test_says_what_is_missing(self, sdist, tools, tmp_path, capsys):
        words = [str(sdist), "--into", str(tmp_path / "site"), "--cuda", "/nowhere"]
        assert main([*words, "--compiler", tools.compiler]) == 1
        assert "cuda.h is missing; it comes with CUDA's driver headers" in capsys.readouterr().err


class TestWheel:
    def test_is_the_same_each_time_and_lists_its_files(self, tmp_path):
        (tmp_path / "module.so").write_bytes(b"native")
        files = [("pycuda/_driver.so", tmp_path / "module.so")]
        wheels = [tmp_path / name / "pycuda-1-cp311-cp311-linux_aarch64.whl" for name in ("one", "two")]
        for wheel in wheels:
            wheel.parent.mkdir()
            write_wheel(wheel, files)
        assert wheels[0].read_bytes() == wheels[1].read_bytes()
        with zipfile.ZipFile(wheels[0]) as opened:
            record = opened.read("pycuda-1.dist-info/RECORD").decode()
            assert opened.read("pycuda/_driver.so") == b"native"
            assert b"Tag: cp311-cp311-linux_aarch64" in opened.read("pycuda-1.dist-info/WHEEL")
        digest = base64.urlsafe_b64encode(hashlib.sha256(b"native").digest()).decode().rstrip("=")
        assert f"pycuda/_driver.so,sha256={digest},6\n" in record
        assert record.endswith("pycuda-1.dist-info/RECORD,,\n")
