"""Provides pycuda, which comes as source only: compiled for a target, or to be compiled on the board."""

from __future__ import annotations

import base64
import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cross.errors import BundleError, CrossError
from cross.lock import Pin, sha256_of
from cross.native import check_natives
from cross.progress import say
from cross.pycuda_compile import (
    SDIST,
    SDIST_SHA256,
    VERSION,
    CompileError,
    Tools,
    compile_modules,
    package_files,
    unpack,
)
from cross.target import Target
from cross.wheels import fetch, run_pip
from cross.wheels import unpack as unpack_wheel
from edgert.errors import ConfigError

SCRIPT = Path(__file__).with_name("pycuda_compile.py")
COMPILERS = {"aarch64": "aarch64-linux-gnu-g++", "x86_64": "x86_64-linux-gnu-g++"}
DEFAULT_CUDA = "13.0"  # of a target without a GPU, which compiles it for a test

# NumPy 2's headers make modules that run with NumPy 1.19 and later.
_NUMPY = Pin(
    "efd28d4e9cd7d7a8d39074a4d44c63eda73401580c5c76acda2ce969e0a38e83",
    "numpy-2.2.6-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
)
# A module calls the functions of the CUDA whose headers it was compiled with; 12 has none of 13's.
_CUDA = {
    12: (
        Pin(
            "d461264ecb429c84c8879a7153499ddc7b19b5f8d84c204307491989a365588e",
            "nvidia_cuda_runtime_cu12-12.6.77-py3-none-manylinux2014_aarch64.whl",
        ),
        Pin(
            "4dfdc7d84d2f9b7a643b2546f09756ba49caefb58953d0afd37d33e3cdd64640",
            "nvidia_cuda_profiler_api_cu12-12.6.77-py3-none-manylinux2014_aarch64.whl",
        ),
    ),
    13: (
        Pin(
            "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
            "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        ),
        Pin(
            "ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003",
            "nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        ),
        Pin(
            "b307d61f574ab60666d0b2cb204738338dbd0e05a9fa609eaab198222f0a13c2",
            "nvidia_cuda_profiler_api-13.0.85-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        ),
    ),
}
_PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64")
_WHEEL = "Wheel-Version: 1.0\nGenerator: edgert\nRoot-Is-Purelib: false\nTag: {tag}\n"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def provide(
    target: Target, sysroot: Path | None, out_folder: Path, *, cache: Path, offline: bool = False
) -> list[Path]:
    """Put pycuda into `out_folder` and return its files.

    With the board's root file system that is a wheel, compiled with the Python headers there and the CUDA
    headers of PyPI. Without one it is the source and `pycuda_compile.py`, to be run on the board once.

    Raises:
        ConfigError: `sysroot` has no headers of the target's Python.
        BundleError: a fetched file has another hash, or what was compiled does not fit the target.
        CrossError: the compiler is missing or fails, or a file cannot be fetched.
    """
    out_folder.mkdir(parents=True, exist_ok=True)
    python = None if sysroot is None else python_headers(target, sysroot)
    sdist = fetch_sdist(cache, offline=offline)
    if sysroot is None or python is None:
        say("pycuda goes in as source: compiled on the board, once. With --sysroot it is compiled here")
        return [_copied(sdist, out_folder), _copied(SCRIPT, out_folder)]
    say(f"compile pycuda {VERSION} for Python {target.python}")
    with tempfile.TemporaryDirectory(dir=out_folder, prefix=".pycuda-") as folder:
        tools = _tools(target, sysroot, python, _headers(target, cache, Path(folder), offline))
        return [_compile(target, sdist, tools, Path(folder), out_folder)]


def python_headers(target: Target, sysroot: Path) -> Path:
    """Return the folder of Python.h in a root file system. Raises ConfigError if it has none."""
    folder = sysroot / "usr" / "include" / f"python{target.python}"
    if not (folder / "Python.h").is_file():
        raise ConfigError(
            f"--sysroot {sysroot}: there is no {folder.relative_to(sysroot)}/Python.h. Install libpython"
            f"{target.python}-dev into that root, or leave --sysroot out: the board then compiles pycuda."
        )
    return folder


def fetch_sdist(cache: Path, *, offline: bool = False) -> Path:
    """Return pycuda's source, fetched by pip if the cache has none. Raises BundleError, CrossError.

    pip makes a source's metadata, which runs its setup.py; it does so only after it has compared the hash.
    """
    file = cache / SDIST
    if not file.is_file():
        if offline:
            raise CrossError(f"Not in {cache}, and --offline forbids fetching: {SDIST}.")
        _download_sdist(file)
    if sha256_of(file) != SDIST_SHA256:
        raise BundleError(f"{file} is not the pinned {SDIST}. Remove the file to fetch it again.")
    return file


def _download_sdist(file: Path) -> None:
    say(f"fetch {SDIST}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch-") as folder:
        wanted = Path(folder, "requirements.txt")
        wanted.write_text(f"pycuda=={VERSION} --hash=sha256:{SDIST_SHA256}\n")
        run_pip(
            *("download", "-q", "--no-deps", "--require-hashes", "--no-binary=pycuda"),
            *("--dest", folder, "-r", str(wanted)),
        )
        Path(folder, SDIST).replace(file)


def cuda_pins(target: Target) -> list[Pin]:
    """Return the wheels whose headers are needed. Raises ConfigError if there are none for its CUDA."""
    version = target.board.cuda or DEFAULT_CUDA
    pins = _CUDA.get(int(version.partition(".")[0]))
    if pins is None:
        raise ConfigError(f"{target.name}: board.cuda: pycuda is compiled for CUDA 12 and 13, not {version}")
    return [_NUMPY, *pins]


def _headers(target: Target, cache: Path, folder: Path, offline: bool) -> Path:
    for wheel in fetch(cuda_pins(target), _PLATFORMS, "3.10", cache, offline=offline):
        unpack_wheel(wheel, folder / "headers" / wheel.name.partition("-")[0])
    return folder / "headers"


def _tools(target: Target, sysroot: Path, python: Path, headers: Path) -> Tools:
    numpy = headers / "numpy" / "numpy" / "_core" / "include"
    cuda = sorted(headers.glob("nvidia*/nvidia/*/include"))
    return Tools(
        COMPILERS[target.architecture],
        (*cuda, numpy, python),
        f".cpython-{target.python.replace('.', '')}-{target.architecture}-linux-gnu.so",
        (sysroot / "usr" / "include",),  # Debian's pyconfig.h leads there
    )


def _compile(target: Target, sdist: Path, tools: Tools, folder: Path, out_folder: Path) -> Path:
    try:
        source = unpack(sdist, folder)
        modules = compile_modules(source, tools, folder)
    except CompileError as error:
        raise CrossError(str(error)) from error
    check_natives(modules[0].parent, target)
    tag = f"cp{target.python.replace('.', '')}"
    wheel = out_folder / f"pycuda-{VERSION}-{tag}-{tag}-linux_{target.architecture}.whl"
    write_wheel(wheel, package_files(source, modules))
    return wheel


def write_wheel(wheel: Path, files: Iterable[tuple[str, Path]]) -> None:
    """Write a wheel whose bytes depend on its files alone; its name says what it is for. Raises OSError."""
    name, version, tag = wheel.stem.split("-", 2)
    folder = f"{name}-{version}.dist-info"
    contents = [(path, file.read_bytes()) for path, file in files]
    contents.append((f"{folder}/WHEEL", _WHEEL.format(tag=tag).encode()))
    record = "".join(_record_line(path, data) for path, data in contents) + f"{folder}/RECORD,,\n"
    contents.append((f"{folder}/RECORD", record.encode()))
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in _entries(contents):
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)


def _entries(contents: list[tuple[str, bytes]]) -> Iterator[tuple[zipfile.ZipInfo, bytes]]:
    for path, data in contents:
        entry = zipfile.ZipInfo(path, _ZIP_TIME)
        entry.external_attr = 0o644 << 16
        yield entry, data


def _record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}\n"


def _copied(file: Path, folder: Path) -> Path:
    copy = folder / file.name
    copy.write_bytes(file.read_bytes())
    return copy
