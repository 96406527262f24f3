#!/usr/bin/env python3
"""Compile pycuda from its source, without pip and without the network.

pycuda comes as source only. The cross-build compiles it by this module where it has the board's root file
system; else a bundle carries the source and this file, and it is run on the board, once:

  sudo apt-get install g++ python3-dev cuda-driver-dev-12-6 cuda-profiler-api-12-6
  sudo python3 pycuda_compile.py pycuda-2026.1.tar.gz --into /opt/edgert/lib/edgert/site

Built without OpenGL and cuRAND, which edgert does not use. It needs nothing but Python's own modules, and
NumPy's headers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

VERSION = "2026.1"
SDIST = f"pycuda-{VERSION}.tar.gz"
SDIST_SHA256 = "759516160628ba06f32ce7e563e3f5b9214691dc9528a03ea99ea1073f4e14ba"

_BOOST = Path("bpl-subset", "bpl_subset")
_DRIVER = (
    "src/cpp/cuda.cpp",
    "src/cpp/bitlog.cpp",
    "src/wrapper/wrap_cudadrv.cpp",
    "src/wrapper/mempool.cpp",
)
_STRUCT = "src/wrapper/_pvt_struct_v3.cpp"
_FLAGS = ("-O2", "-fPIC", "-std=gnu++17", "-pthread", "-fwrapv", "-w", "-DNDEBUG")
# As pycuda's own build defines them; its Boost is renamed, lest it meets another one in the process.
_DEFINES = (
    *("BOOST_ALL_NO_LIB=1", "BOOST_THREAD_BUILD_DLL=1", "BOOST_MULTI_INDEX_DISABLE_SERIALIZATION=1"),
    *("BOOST_PYTHON_SOURCE=1", "BOOST_THREAD_DONT_USE_CHRONO=1", "boost=pycudaboost"),
    *("PYGPU_PACKAGE=pycuda", "PYGPU_PYCUDA=1"),
)
_LEFT_OUT = frozenset(("gl", "curandom.py"))
_LIBCUDA = "libcuda.so.1"


class CompileError(Exception):
    """A compiler or a header is missing, or the source is refused."""


class Tools(NamedTuple):
    """What to compile with. `suffix` is that of the target's extension modules."""

    compiler: str
    includes: tuple[Path, ...]
    suffix: str
    last_includes: tuple[Path, ...] = ()
    """Searched after the compiler's own."""


def main(arguments: list[str] | None = None) -> int:
    """Compile on the board, for this Python."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source = unpack(options.source, Path(folder))
            print(f"Compiling pycuda {VERSION}; this takes a few minutes.", flush=True)
            install(source, compile_modules(source, _tools_here(options), Path(folder)), options.into)
    except (CompileError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"pycuda {VERSION} is in {options.into}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar=SDIST, help="pycuda's source")
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder of Python modules")
    parser.add_argument(
        "--cuda", type=Path, default=Path("/usr/local/cuda"), metavar="DIR", help="CUDA's toolkit"
    )
    parser.add_argument("--compiler", default="g++", metavar="PROGRAM", help="default: g++")
    return parser


def _tools_here(options: argparse.Namespace) -> Tools:
    includes = (options.cuda / "include", _numpy_headers(options.into), Path(sysconfig.get_path("include")))
    return Tools(options.compiler, includes, sysconfig.get_config_var("EXT_SUFFIX"))


def _numpy_headers(site: Path) -> Path:
    """Return the headers of the NumPy in `site`, or of this Python's. Raises CompileError."""
    for name in ("_core", "core"):  # NumPy 2, NumPy 1
        folder = site / "numpy" / name / "include"
        if (folder / "numpy" / "arrayobject.h").is_file():
            return folder
    try:
        import numpy
    except ImportError as error:
        raise CompileError(
            f"{site} has no headers of NumPy, nor has this Python: install python3-numpy."
        ) from error
    return Path(numpy.get_include())


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack the source and return its folder. Raises CompileError if it is not the pinned file; OSError."""
    actual = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if actual != SDIST_SHA256:
        raise CompileError(f"{sdist} has SHA-256 {actual}, expected {SDIST_SHA256}: it is not {SDIST}.")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)  # noqa: S202 - its hash is pinned
    source = folder / SDIST.removesuffix(".tar.gz")
    (source / _BOOST / "pycudaboost").symlink_to("boost")
    return source


def compile_modules(source: Path, tools: Tools, folder: Path) -> list[Path]:
    """Compile both extension modules into a folder of their own in `folder`; on all cores, for a minute.

    The files depend on the source, the compiler and the headers alone, not on where they lie.

    Raises:
        CompileError: a tool or header is missing, or the compiler fails.
    """
    _check(tools)
    for name in ("objects", "modules"):
        (folder / name).mkdir()
    sources = [*_DRIVER, *_boost_sources(source), _STRUCT]
    objects = [folder / "objects" / f"{number}.o" for number in range(len(sources))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda pair: _compile(source, tools, *pair), zip(sources, objects, strict=True)))
    modules = [folder / "modules" / f"{name}{tools.suffix}" for name in ("_driver", "_pvt_struct")]
    stub = _link_stub(tools, folder / "objects" / "libcuda.so")
    _link(tools, objects[:-1], modules[0], "-Wl,--no-as-needed", str(stub))
    _link(tools, objects[-1:], modules[1])
    return modules


def _check(tools: Tools) -> None:
    if shutil.which(tools.compiler) is None:
        raise CompileError(f"There is no {tools.compiler}: apt-get install {_package_of(tools.compiler)}")
    for header, package in (
        ("cuda.h", "CUDA's driver headers, cuda-driver-dev-12-6 or -13-0"),
        ("cudaProfiler.h", "CUDA's profiler headers, cuda-profiler-api-12-6 or -13-0"),
        ("numpy/arrayobject.h", "NumPy"),
        ("Python.h", "Python's headers, python3-dev"),
    ):
        if not any((folder / header).is_file() for folder in tools.includes):
            searched = ", ".join(map(str, tools.includes))
            raise CompileError(f"{header} is missing; it comes with {package}. Searched: {searched}")


def _package_of(compiler: str) -> str:
    prefix = compiler.removesuffix("g++").removesuffix("-")
    return f"g++-{prefix}" if prefix and prefix != compiler else "g++"


def _boost_sources(source: Path) -> list[str]:
    """Return the sources of Boost.Python and of Boost.Thread's part for POSIX, in order."""
    libraries = source / _BOOST / "libs"
    thread = libraries / "thread" / "src"
    found = [file for file in libraries.rglob("*.cpp") if thread not in file.parents]
    found += [file for file in (thread / "pthread").glob("*.cpp") if file.name != "once_atomic.cpp"]
    return sorted(file.relative_to(source).as_posix() for file in found)


def _compile(source: Path, tools: Tools, name: str, target: Path) -> None:
    includes = [f"-I{folder}" for folder in (Path("src/cpp"), _BOOST, *tools.includes)]
    includes += [word for folder in tools.last_includes for word in ("-idirafter", str(folder))]
    defines = [f"-D{define}" for define in _DEFINES]
    _run([tools.compiler, *_FLAGS, *defines, *includes, "-c", name, "-o", str(target)], source)


def _link_stub(tools: Tools, library: Path) -> Path:
    """Link an empty library in place of the driver's, which is on the board alone."""
    nothing = ("-x", "c++", os.devnull)
    _run([tools.compiler, "-shared", "-nostdlib", f"-Wl,-soname,{_LIBCUDA}", *nothing, "-o", str(library)])
    return library


def _link(tools: Tools, objects: list[Path], target: Path, *libraries: str) -> None:
    names = [str(file) for file in objects]
    _run(
        [
            tools.compiler,
            "-shared",
            "-pthread",
            "-s",
            "-Wl,--build-id=none",
            *names,
            *libraries,
            "-o",
            str(target),
        ]
    )


def _run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n  ".join(done.stderr.strip().splitlines()[:12])
        raise CompileError(f"{command[0]} failed at {command[-1]}:\n  {said}")


def install(source: Path, modules: list[Path], site: Path) -> None:
    """Put the package into a folder of Python modules. Raises OSError."""
    for name, file in package_files(source, modules):
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


def package_files(source: Path, modules: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the installed package: each file's name in the folder of modules, and where it lies now.

    METADATA comes last: it says that the others are there.
    """
    for file in sorted((source / "pycuda").rglob("*")):
        name = file.relative_to(source)
        if file.suffix in (".py", ".hpp") and not _LEFT_OUT & set(name.parts):
            yield name.as_posix(), file
    for module in modules:
        yield f"pycuda/{module.name}", module
    yield f"pycuda-{VERSION}.dist-info/licenses/LICENSE", source / "LICENSE"
    yield f"pycuda-{VERSION}.dist-info/METADATA", source / "PKG-INFO"


if __name__ == "__main__":
    sys.exit(main())
