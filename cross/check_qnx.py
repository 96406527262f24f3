"""Looks for what native code for QNX is compiled with; the same rules as toolchains/aarch64-qnx.cmake."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from cross.check_finding import Finding, State, find_program

SDP = "QNX Software Development Platform, under licence from QNX; source its qnxsdp-env.sh"
DRIVE = "NVIDIA DRIVE SDK for QNX, under licence from NVIDIA"
TENSORRT_HEADERS = Path("/usr/include/aarch64-unknown-nto-qnx")
_FOLDERS = {"QNX_HOST": "/.../host/linux/x86_64", "QNX_TARGET": "/.../target/qnx7"}


def find_qnx(environment: Mapping[str, str], tensorrt_headers: Path = TENSORRT_HEADERS) -> Iterator[Finding]:
    """Yield the SDP, CUDA for QNX, the compilers that go with it, TensorRT's headers and CMake."""
    for name, example in _FOLDERS.items():
        yield _find_folder(environment, name, f"{SDP} (as {example})")
    cuda, root = cuda_of(environment)
    yield _find_cuda(cuda, root)
    yield from _find_compilers(environment, cuda)
    header = tensorrt_headers / "NvInfer.h"
    yield Finding("TensorRT's headers for QNX", *_where(header, f"{header}: tensorrt-dev-cross-qnx, {DRIVE}"))
    found = find_program(environment, "cmake", "--version", r"(\d+\.\d+\.\d+)")
    yield Finding("CMake", State.THERE if found else State.MISSING, found or "apt-get install cmake")


def cuda_of(environment: Mapping[str, str]) -> tuple[str, Path | None]:
    """Return the toolkit's name, `cuda-11.4`, and its folder; either of CUDA and CUDA_ROOT will do."""
    name, root = environment.get("CUDA", ""), environment.get("CUDA_ROOT", "")
    if not root:
        return name, Path("/usr/local", name) if name else None
    return name or Path(root).name, Path(root)


def qnx_version(cuda: str) -> tuple[str, str]:
    """Return the versions of QNX and of gcc that go with a CUDA toolkit."""
    return ("7.1.0", "8.3.0") if cuda == "cuda-11.4" else ("8.0.0", "12.2.0")


def _find_folder(environment: Mapping[str, str], name: str, source: str) -> Finding:
    value = environment.get(name, "")
    if not value:
        return Finding(name, State.MISSING, f"the variable is not set. {source}")
    return Finding(name, *_where(Path(value), f"{value} is not there. {source}"))


def _find_cuda(cuda: str, root: Path | None) -> Finding:
    what = "CUDA for QNX"
    if root is None:
        return Finding(what, State.MISSING, f"neither CUDA nor CUDA_ROOT is set. {DRIVE}")
    if not re.fullmatch(r"cuda-\d+\.\d+", cuda):
        return Finding(what, State.MISSING, f"{cuda!r} names no version; set CUDA, as cuda-11.4")
    folder = root / "targets" / "aarch64-qnx"
    return Finding(what, *_where(folder, f"there is no {folder}. {DRIVE}"))


def _find_compilers(environment: Mapping[str, str], cuda: str) -> Iterator[Finding]:
    version, gcc = qnx_version(cuda)
    what = f"compilers of QNX {version} (gcc {gcc})"
    host = environment.get("QNX_HOST", "")
    if not host or not cuda:
        yield Finding(what, State.MISSING, f"they are found by QNX_HOST and CUDA. {SDP}")
        return
    prefix = f"aarch64-unknown-nto-qnx{version}-"
    names = ("qcc", "q++") if uses_qcc(environment) else (f"{prefix}gcc", f"{prefix}g++")
    for name in names:
        file = Path(host, "usr", "bin", name)
        yield Finding(name, *_where(file, f"there is no {file}; {cuda} goes with QNX {version}. {SDP}"))


def uses_qcc(environment: Mapping[str, str]) -> bool:
    """Tell whether USE_QCC asks for QNX's own drivers, as CMake reads such a variable."""
    return environment.get("USE_QCC", "").upper() not in (
        "",
        "0",
        "OFF",
        "NO",
        "FALSE",
        "N",
        "IGNORE",
        "NOTFOUND",
    )


def _where(path: Path, otherwise: str) -> tuple[State, str]:
    return (State.THERE, str(path)) if path.exists() else (State.MISSING, otherwise)
