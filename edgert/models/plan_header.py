"""Reads the first bytes of a TensorRT engine file without TensorRT.

The layout is what `trtexec --getPlanVersionOnly` reads (samples/common/sampleEngines.cpp of NVIDIA/TensorRT):
a tag of four letters, the serialization version, the version that built it in bytes 24 to 27. Files of
TensorRT-RTX have their own tag and, in bytes 16 to 23, their size. All numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Literal

import msgspec

from edgert.errors import ModelError

PlanTag = Literal["ftrt", "vtrt"]
PlanFamily = Literal["tensorrt", "tensorrt_rtx"]

FAMILY_OF_TAG: dict[PlanTag, PlanFamily] = {"ftrt": "tensorrt", "vtrt": "tensorrt_rtx"}
_LAYOUT = struct.Struct("<4sI8xQ4B")
_KNOWN_SERIALIZATION = 0  # the one whose layout is the one above
_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer. Fetch the file itself: git lfs pull"),
    (
        b"PK\x03\x04",
        "a ZIP file, such as a PyTorch model. Export it to ONNX, then run: edgert build",
    ),
    (b"\x08", "perhaps an ONNX model. Build an engine from it: edgert build"),
    (b"TRT-", "a calibration cache, not an engine. Build the engine with it: edgert build"),
)
_REMEDY = "Copy the file again, or build it again: edgert build"


class PlanHeader(msgspec.Struct, frozen=True):
    """What an engine file says of itself before anything is loaded."""

    tag: PlanTag
    family: PlanFamily  # which runtimes can read it
    serialization: int
    version: tuple[int, ...]  # major, minor, patch, build of what built it; () if serialization is unknown
    plan_bytes: int | None  # the size that the file should have; None: it does not say


def read_plan_header(file: Path) -> PlanHeader:
    """Return what the first 28 bytes say.

    Raises:
        ModelError: absent, empty, no engine, or shorter or longer than it says of itself.
    """
    try:
        with file.open("rb") as opened:
            beginning = opened.read(_LAYOUT.size)
            size_bytes = os.fstat(opened.fileno()).st_size
    except OSError as error:
        raise ModelError(f"{file}: the engine cannot be read: {error.strerror}") from error
    header = _parse(file, beginning)
    if header.plan_bytes is not None and header.plan_bytes != size_bytes:
        what = "truncated" if size_bytes < header.plan_bytes else "damaged or joined with something else"
        raise ModelError(
            f"{file}: the engine is {what}: it says that it has {header.plan_bytes} bytes, "
            f"the file has {size_bytes}. {_REMEDY}"
        )
    return header


def _parse(file: Path, beginning: bytes) -> PlanHeader:
    if not beginning:
        raise ModelError(f"{file}: the engine is empty (0 bytes). {_REMEDY}")
    tag = next((tag for tag in FAMILY_OF_TAG if beginning.startswith(tag.encode())), None)
    if tag is None:
        raise ModelError(f"{file}: not a TensorRT engine: it begins with {_describe(beginning)}")
    if len(beginning) < _LAYOUT.size:
        raise ModelError(
            f"{file}: the engine is truncated: it has {len(beginning)} bytes, its header alone has "
            f"{_LAYOUT.size}. {_REMEDY}"
        )
    _, serialization, size_bytes, *version = _LAYOUT.unpack(beginning)
    is_known = serialization == _KNOWN_SERIALIZATION
    return PlanHeader(
        tag=tag,
        family=FAMILY_OF_TAG[tag],
        serialization=serialization,
        version=tuple(version) if is_known else (),
        plan_bytes=size_bytes if is_known and tag == "vtrt" else None,
    )


def _describe(beginning: bytes) -> str:
    shown = beginning[:8].hex(" ")
    guess = next((text for start, text in _BEGINNINGS if beginning.startswith(start)), "")
    expected = "expected 'ftrt' (TensorRT) or 'vtrt' (TensorRT-RTX)"
    return f"{shown}, {guess}" if guess else f"{shown}, {expected}. {_REMEDY}"
