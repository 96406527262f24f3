"""Says what this machine has to cross-build a target, what is missing, and where that comes from."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from cross import compile_kernels
from cross.check_finding import Finding, State, find_program, program_path
from cross.check_qnx import find_qnx
from cross.lock import lock_file, read_lock
from cross.own_wheel import CHECKOUT
from cross.pycuda import COMPILERS, cuda_pins, python_headers
from cross.pycuda_compile import SDIST
from cross.target import Target, read_target
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode

HELP = "Say what this machine has for a target, what is missing, and where it comes from."
NVRTC_WHEEL = "nvidia_cuda_nvrtc_cu12-12.6.*.whl"

_MARKS = {State.THERE: "ok", State.FETCHED: "fetch", State.MISSING: "MISSING", State.OPTIONAL: "-"}
_CUDA_OF_NVCC = 13
_BOARDS = {"7.2": "Xavier", "8.7": "Orin", "10.1": "Thor as CUDA 12 calls it", "11.0": "Thor"}
_REFUSED = "It refuses sm_72 (Xavier) and sm_101 (CUDA 12's name of Thor)"


class Place(NamedTuple):
    """The machine: environment variables, the build's cache and, if there is one, the board's root."""

    environment: Mapping[str, str]
    cache: Path
    sysroot: Path | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cross check`."""
    parser.add_argument("target", metavar="TARGET", help="`edgert cross targets` lists them")
    parser.add_argument("--sysroot", type=Path, metavar="DIR", help="the board's root file system")
    parser.add_argument("--cache", type=Path, default=CHECKOUT / ".cache" / "cross", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the findings; exit code 0 only if all that is needed is there. Raises ConfigError."""
    target = read_target(options.target)
    findings = check(target, Place(os.environ, options.cache, options.sysroot))
    missing = [finding for finding in findings if finding.state is State.MISSING]
    if options.json:
        answer = {"target": target.name, "complete": not missing, "findings": findings}
        print(msgspec.json.format(msgspec.json.encode(answer)).decode())
    else:
        print(f"{target.name}: {target.description}")
        for finding in findings:
            print(as_line(finding))
        print(_verdict(target, missing))
    return ExitCode.OUTSIDE if missing else ExitCode.OK


def check(target: Target, place: Place) -> list[Finding]:
    """Return what is there and what is not, in the order in which a build needs it."""
    if target.system == "qnx":
        return list(find_qnx(place.environment))
    return [
        *_find_wheels(target, place.cache),
        *_find_kernel_compilers(target, place),
        *_find_for_pycuda(target, place),
        *_find_for_native_code(target, place),
    ]


def as_line(finding: Finding) -> str:
    """Return the finding as a person reads it."""
    return f"  {_MARKS[finding.state]:8} {finding.what:34} {finding.said}"


def _verdict(target: Target, missing: list[Finding]) -> str:
    if not missing:
        return f"All that {target.name} needs is there; `fetch` is what the build fetches by itself."
    return f"Missing: {', '.join(finding.what for finding in missing)}"


def _find_wheels(target: Target, cache: Path) -> Iterator[Finding]:
    has_pip = importlib.util.find_spec("pip") is not None
    yield Finding(
        "pip",
        State.THERE if has_pip else State.MISSING,
        sys.executable if has_pip else f"{sys.executable} -m ensurepip",
    )
    file = lock_file(target.name)
    if not file.is_file():
        yield Finding("wheels", State.MISSING, f"there is no {file}: python -m cross lock {target.name}")
        return
    pins = read_lock(file)
    here = sum((cache / pin.file_name).is_file() for pin in pins)
    is_whole = here == len(pins)
    said = f"{here} of {len(pins)} are in {cache}{'' if is_whole else '; the others are on PyPI'}"
    yield Finding("wheels", State.THERE if is_whole else State.FETCHED, said)


def _find_kernel_compilers(target: Target, place: Place) -> Iterator[Finding]:
    for image in target.bundle.kernels:
        compiled = compiled_image(image, place.cache)
        if compiled is not None:
            yield Finding(image, State.THERE, str(compiled))
        if image.endswith(".fatbin"):
            otherwise = State.OPTIONAL if compiled else State.MISSING
            yield find_nvcc(place.environment, target.board.compute, otherwise)
        elif compiled is None:
            wheel = next(iter(sorted(place.cache.glob(NVRTC_WHEEL))), None)
            state = State.THERE if wheel else State.FETCHED
            yield Finding("NVRTC 12.6", state, f"{wheel or 'PyPI: nvidia-cuda-nvrtc-cu12 12.6'}")


def compiled_image(name: str, cache: Path) -> Path | None:
    """Return a kernel image that is compiled already, from the sources as they are."""
    stamp = compile_kernels.stamp()
    for file in (compile_kernels.SOURCES / name, cache / "kernels" / f"{stamp}-{name}"):
        if file.is_file() and stamp.encode() in file.read_bytes():
            return file
    return None


def find_nvcc(environment: Mapping[str, str], compute: str | None, otherwise: State) -> Finding:
    """Find nvcc 13 and whether it compiles for a device of the compute capability."""
    what = f"nvcc {_CUDA_OF_NVCC}"
    found = find_program(environment, "nvcc", "--version", rf"release ({_CUDA_OF_NVCC}\.\d+)")
    if found is None:
        at = program_path(environment, "nvcc")
        other = f"{at} is another version; " if at else ""
        return Finding(what, otherwise, f"{other}NVIDIA's CUDA toolkit 13, or PyPI: nvidia-cuda-nvcc, -crt")
    name = f"sm_{(compute or '').replace('.', '')}"
    if compute and find_program(environment, "nvcc", "--list-gpu-code", rf"\b({name})\b") is None:
        board = _BOARDS.get(compute, f"compute {compute}")
        return Finding(what, otherwise, f"{found} does not compile for {name} ({board}). {_REFUSED}")
    return Finding(what, State.THERE, f"{found}. {_REFUSED}")


def _find_for_pycuda(target: Target, place: Place) -> Iterator[Finding]:
    if not target.bundle.builds_pycuda:
        return
    yield _find_fetched("pycuda's source", [SDIST], place.cache, "PyPI: pycuda, as source only")
    if place.sysroot is None:
        yield Finding(
            "root file system of the board",
            State.OPTIONAL,
            "--sysroot DIR compiles pycuda here; without it the board does, once",
        )
        return
    yield _find_python(target, place.sysroot)
    yield _find_c_library(target, place.sysroot)
    pins = cuda_pins(target)
    source = "PyPI: " + ", ".join(f"{pin.distribution} {pin.version}" for pin in pins)
    what = f"headers of CUDA and NumPy, {target.architecture}"
    yield _find_fetched(what, [pin.file_name for pin in pins], place.cache, source)


def _find_python(target: Target, sysroot: Path) -> Finding:
    what = f"Python {target.python} headers in the root"
    try:
        return Finding(what, State.THERE, str(python_headers(target, sysroot)))
    except ConfigError as error:
        return Finding(what, State.MISSING, str(error))


def _find_c_library(target: Target, sysroot: Path) -> Finding:
    """The root must be of the target's architecture; its C library tells."""
    what = f"C library for {target.architecture} in the root"
    for folder in ("lib", "usr/lib"):  # the first is a link to the second where they are merged
        library = sysroot / folder / f"{target.architecture}-linux-gnu" / "libc.so.6"
        if library.is_file():
            return Finding(what, State.THERE, str(library))
    return Finding(what, State.MISSING, f"{sysroot} is no root file system of a {target.architecture} board")


def _find_fetched(what: str, names: list[str], cache: Path, source: str) -> Finding:
    if all((cache / name).is_file() for name in names):
        return Finding(what, State.THERE, str(cache))
    return Finding(what, State.FETCHED, source)


def _find_for_native_code(target: Target, place: Place) -> Iterator[Finding]:
    """The compiler is needed where pycuda is compiled; the rest is for native code and the smoke test."""
    compiler = COMPILERS[target.architecture]
    source = f"apt-get install g++-{compiler.removesuffix('-g++').replace('_', '-')}"
    is_needed = place.sysroot is not None and target.bundle.builds_pycuda
    yield _find_tool(place.environment, compiler, source, State.MISSING if is_needed else State.OPTIONAL)
    yield _find_tool(place.environment, "cmake", "apt-get install cmake; for native code", State.OPTIONAL)
    if target.name == "debian-arm64" and platform.machine() != target.architecture:
        source = "apt-get install qemu-user-static; for `cross smoke`"
        yield _find_tool(place.environment, "qemu-aarch64-static", source, State.OPTIONAL)


def _find_tool(environment: Mapping[str, str], program: str, source: str, otherwise: State) -> Finding:
    found = find_program(environment, program, "--version", r"(\d+\.\d+(?:\.\d+)?)")
    return Finding(program, State.THERE if found else otherwise, found or source)
