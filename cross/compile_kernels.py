#!/usr/bin/env python3
"""Compile the preparation kernel into the images that the wheel carries.

Run this where edgert is built, never on a board. It needs no GPU and nothing but Python's own modules:

  kernels-cuda13.fatbin      by nvcc 13, for drivers of CUDA 13 and later: machine code for compute 8.7
                             (Orin), 9.0 (Hopper), 11.0 (Thor), and PTX that the drivers of others translate
  kernels-cuda12-sm87.cubin  by NVRTC 12.6, for JetPack 6, whose driver takes nothing that nvcc 13 makes
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "edgert" / "prepare" / "cuda"
FATBIN, CUBIN = "kernels-cuda13.fatbin", "kernels-cuda12-sm87.cubin"
MACHINE_CODE = (87, 90, 110)
PTX = 87
NVRTC = Path(sysconfig.get_path("purelib"), "nvidia", "cuda_nvrtc", "lib", "libnvrtc.so.12")
NVRTC_VERSION = (12, 6)
FATBIN_MAGIC, EM_CUDA = 0xBA55ED50, 190

EXAMPLES = """examples:
  python3 cross/compile_kernels.py
  python3 cross/compile_kernels.py --only cuda13 --nvcc /usr/local/cuda-13.0/bin/nvcc
  python3 -m pip install --target .cache/nvrtc 'nvidia-cuda-nvrtc-cu12==12.6.*'
  python3 cross/compile_kernels.py --nvrtc .cache/nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.12
"""


class CompileError(Exception):
    """A compiler is missing or refuses the source."""


def main(arguments: list[str] | None = None) -> int:
    """Compile what is asked for; print each image with its size and what is in it."""
    options = _parser().parse_args(arguments)
    options.into.mkdir(parents=True, exist_ok=True)
    try:
        if options.only != "cuda12":
            _store(options.into / FATBIN, compile_fatbin(options.nvcc))
        if options.only != "cuda13":
            _store(options.into / CUBIN, compile_cubin(options.nvrtc))
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nvcc", default="nvcc", help="nvcc 13 (default: the one on PATH)")
    parser.add_argument("--nvrtc", type=Path, default=NVRTC, help="libnvrtc.so.12 (default: this Python's)")
    parser.add_argument("--only", choices=("cuda13", "cuda12"), help="compile one of the two images")
    parser.add_argument("--into", type=Path, default=SOURCES, help="folder for the images")
    return parser


def _store(file: Path, image: bytes) -> None:
    """Check that the image is what it should be, then put it in place at once."""
    if stamp().encode() not in image:
        raise CompileError(f"{file.name} does not hold its stamp {stamp()}.")
    contents = list(describe(image))
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(image)
    part.replace(file)
    print(f"{file}: {len(image):,} bytes, {', '.join(contents)}, {stamp()}")


def stamp() -> str:
    """Return what says which sources an image was compiled from; as `edgert.prepare.kernels.kernel_stamp`."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in _sources())).hexdigest()
    return f"edgert-kernels-{digest[:16]}"


def _sources() -> list[Path]:
    return sorted(path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cuh"))


def _flags() -> list[str]:
    return ["--std=c++17", f'-DKERNELS_STAMP="{stamp()}"']


def compile_fatbin(nvcc: str) -> bytes:
    """Return machine code for each device and PTX, not compressed so that the stamp can be read."""
    compiler = shutil.which(nvcc)
    if compiler is None:
        raise CompileError(f"There is no {nvcc}. Install CUDA 13's compiler, or name it with --nvcc.")
    targets = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in MACHINE_CODE]
    targets.append(f"-gencode=arch=compute_{PTX},code=compute_{PTX}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, FATBIN)
        command = [compiler, "--fatbin", "--no-compress", *_flags(), *targets, "-o", str(file)]
        done = subprocess.run(
            [*command, str(SOURCES / "kernels.cu")], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise CompileError(f"{nvcc} failed:\n{done.stdout}{done.stderr}")
        return file.read_bytes()


def compile_cubin(library: Path) -> bytes:
    """Return machine code for compute 8.7 as NVRTC of CUDA 12.6 makes it."""
    nvrtc = _open_nvrtc(library)
    headers = [path for path in _sources() if path.suffix == ".cuh"]
    texts = (ctypes.c_char_p * len(headers))(*(path.read_bytes() for path in headers))
    names = (ctypes.c_char_p * len(headers))(*(path.name.encode() for path in headers))
    source = (SOURCES / "kernels.cu").read_bytes()
    program = ctypes.c_void_p()
    status = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source, b"kernels.cu", len(headers), texts, names
    )
    _check(nvrtc, status, "taking the source")
    try:
        return _compiled(nvrtc, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _compiled(nvrtc: ctypes.CDLL, program: ctypes.c_void_p) -> bytes:
    flags = [flag.encode() for flag in ("--gpu-architecture=sm_87", *_flags())]
    status = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    if status:
        log = _read(nvrtc, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        raise CompileError(f"NVRTC refuses the source:\n{log}")
    return _read(nvrtc, program, "CUBIN")


def _read(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)), f"sizing the {what}")
    text = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, text), f"reading the {what}")
    return text.raw


def _open_nvrtc(library: Path) -> ctypes.CDLL:
    try:
        nvrtc = ctypes.CDLL(str(library))
    except OSError as error:
        raise CompileError(
            f"NVRTC cannot be loaded: {error}. Install nvidia-cuda-nvrtc-cu12==12.6.*; name it with --nvrtc."
        ) from error
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(nvrtc, nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "asking its version")
    if (major.value, minor.value) != NVRTC_VERSION:
        raise CompileError(f"{library} is NVRTC {major.value}.{minor.value}; JetPack 6 needs 12.6.")
    return nvrtc


def _check(nvrtc: ctypes.CDLL, status: int, what: str) -> None:
    if status:
        raise CompileError(f"NVRTC fails at {what}: {nvrtc.nvrtcGetErrorString(status).decode()}")


def describe(image: bytes) -> Iterator[str]:
    """Yield what is in an image: `sm_87` for machine code, `compute_87` for PTX. Raises CompileError.

    A fatbin is a 16-byte header and entries, each a header (kind, its own bytes, payload bytes, at 28 the
    device) and a payload; machine code is an ELF file, which has the device in its e_flags.
    """
    if image[:4] == b"\x7fELF":
        yield f"sm_{_elf_device(image)}"
        return
    magic, _, at, size = struct.unpack_from("<IHHQ", image)
    if magic != FATBIN_MAGIC or at + size > len(image):
        raise CompileError("This is neither a fatbin nor machine code.")
    end = at + size
    while at < end:
        kind, _, header_bytes, payload_bytes = struct.unpack_from("<HHIQ", image, at)
        (device,) = struct.unpack_from("<I", image, at + 28)
        payload = image[at + header_bytes : at + header_bytes + payload_bytes]
        if kind == 2 and _elf_device(payload) != device:
            raise CompileError(f"The entry for sm_{device} holds code for sm_{_elf_device(payload)}.")
        yield f"{'sm' if kind == 2 else 'compute'}_{device}"
        at += header_bytes + payload_bytes


def _elf_device(elf: bytes) -> int:
    """Return the compute capability of a CUDA ELF file, 87 for 8.7."""
    if elf[:4] != b"\x7fELF" or struct.unpack_from("<H", elf, 18) != (EM_CUDA,):
        raise CompileError("An entry is no CUDA machine code.")
    (flags,) = struct.unpack_from("<I", elf, 48)
    return int(flags >> 8 if elf[8] >= 8 else flags) & 0xFF  # byte 8: the version of CUDA's ELF files


if __name__ == "__main__":
    sys.exit(main())
