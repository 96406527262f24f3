"""Calibration caches of TensorRT 10 and older: one scale for each tensor, found on real frames.

Lines of text. The first is `TRT-<version>-<algorithm>`, every other one `tensor: scale`, the scale a float32
in hexadecimal: what 127 stands for, divided by 127; `0` for a tensor without a range. The names are those of
the ONNX graph, except for what TensorRT added: `(Unnamed Layer* 0) [Convolution]_output`.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, cast, get_args

import msgspec

from edgert.disk import replace_file
from edgert.errors import ConfigError

# `LegacyCalibration` was in no file that could be found: its name goes by the others.
Algorithm = Literal["EntropyCalibration2", "MinMaxCalibration", "EntropyCalibration", "LegacyCalibration"]

MAX_CACHE_BYTES = 16 << 20
MAX_LEVEL = 127
_ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
_FIRST_LINE = re.compile(rb"TRT-([0-9]{4,6})-([A-Za-z0-9]+)\s*")
_SCALE = re.compile(r"[0-9A-Fa-f]{8}|0")  # TensorRT writes no leading zeros, so 0 is one digit
_FLOAT = struct.Struct(">f")
_FIRST_LONG = 10_000  # from TensorRT 10 on a version has two digits for each of minor and patch
_SHOWN = 60


class CalibrationCache(msgspec.Struct, frozen=True):
    """What a cache says."""

    version: int  # of TensorRT, as the file has it: 8501 is 8.5.1, 100300 is 10.3.0
    algorithm: Algorithm
    scales: dict[str, float]  # by tensor; 0: it has no range

    @property
    def release(self) -> str:
        """The version for people: `10.3.0`."""
        return ".".join(map(str, release_of(self.version)))

    def amax(self, name: str) -> float | None:
        """Return the value that becomes 127; None for a tensor that is not listed or has no range."""
        scale = self.scales.get(name, 0.0)
        return scale * MAX_LEVEL if scale else None

    def encode(self) -> bytes:
        """Return the file's content. Raises ConfigError for a scale or a name that a cache cannot hold."""
        lines = [f"TRT-{self.version}-{self.algorithm}"]
        lines.extend(f"{_checked_name(name)}: {_digits(name, scale)}" for name, scale in self.scales.items())
        return "".join(f"{line}\n" for line in lines).encode()


def version_number(release: Sequence[int]) -> int:
    """Return a release, (10, 3, 0), as TensorRT writes it, 100300. Further numbers are left out."""
    major, minor, patch = (*release, 0, 0)[:3]
    return (major * 10_000 if major >= 10 else major * 1000) + minor * 100 + patch


def release_of(version: int) -> tuple[int, int, int]:
    """Return major, minor and patch of a version as TensorRT writes it."""
    major, rest = divmod(version, 10_000 if version >= _FIRST_LONG else 1000)
    return major, rest // 100, rest % 100


def read_calibration_cache(path: Path) -> CalibrationCache:
    """Read a file. Raises ConfigError: it is no cache, or damaged; the message names the line."""
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_CACHE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_calibration_cache(content, path)


def parse_calibration_cache(content: bytes, path: Path) -> CalibrationCache:
    """Return what a cache says; `path` is for messages. Raises ConfigError."""
    if len(content) > MAX_CACHE_BYTES:
        raise ConfigError(f"{path}: expected a calibration cache of at most {MAX_CACHE_BYTES} bytes")
    first, _, rest = content.partition(b"\n")
    version, algorithm = _parse_first(first, path)
    try:
        lines = rest.decode().split("\n")
    except UnicodeDecodeError as error:
        number = rest.count(b"\n", 0, error.start) + 2
        raise ConfigError(
            f"{path}:{number}: not text in UTF-8, the cache is damaged. Copy it again"
        ) from None
    scales = _parse_scales(lines, path)
    if not scales:
        raise ConfigError(f"{path}: lists no tensor, expected `tensor: scale` after its first line")
    return CalibrationCache(version, algorithm, scales)


def write_calibration_cache(path: Path, cache: CalibrationCache | bytes) -> None:
    """Write a cache, or what TensorRT gave as one; a reader sees the old file or the new one, whole.

    Raises:
        ConfigError: it cannot be written, or a cache cannot hold it.
    """
    content = cache if isinstance(cache, bytes) else cache.encode()
    try:
        replace_file(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: the calibration cache cannot be written: {error.strerror}") from error


def _parse_first(line: bytes, path: Path) -> tuple[int, Algorithm]:
    found = _FIRST_LINE.fullmatch(line)
    algorithm = found[2].decode() if found else ""
    if found is None or algorithm not in _ALGORITHMS:
        shown = line[:_SHOWN].decode("ascii", "backslashreplace")
        raise ConfigError(
            f"{path}:1: not a calibration cache: it begins with {shown!r}, expected TRT-<version>- and one "
            f"of {', '.join(_ALGORITHMS)}"
        )
    return int(found[1]), cast("Algorithm", algorithm)


def _parse_scales(lines: list[str], path: Path) -> dict[str, float]:
    scales: dict[str, float] = {}
    for number, line in enumerate((line.removesuffix("\r") for line in lines), 2):
        if not line:
            continue
        name, _, digits = line.rpartition(": ")
        if not name or not _SCALE.fullmatch(digits):
            is_cut = number == len(lines) + 1
            raise ConfigError(f"{path}:{number}: {_complaint(line, is_cut=is_cut)}")
        if name in scales:
            raise ConfigError(f"{path}:{number}: tensor {name!r} stands there twice, expected it once")
        scales[name] = _parse_scale(digits, f"{path}:{number}: tensor {name!r}")
    return scales


def _parse_scale(digits: str, where: str) -> float:
    scale = float(_FLOAT.unpack(int(digits, 16).to_bytes(4, "big"))[0])
    if not math.isfinite(scale) or scale < 0:
        raise ConfigError(f"{where} has scale {scale:g} ({digits}), expected 0 or a positive number")
    return abs(scale)  # -0 is 0


def _complaint(line: str, *, is_cut: bool) -> str:
    expected = "expected `tensor: scale`, the scale as 8 hexadecimal digits or 0"
    if is_cut:
        return f"the file ends within {line[-_SHOWN:]!r}, {expected}. Copy it again"
    return f"{line[-_SHOWN:]!r}: {expected}"


def _checked_name(name: str) -> str:
    if not name or "\n" in name:
        raise ConfigError(f"tensor {name!r}: a calibration cache cannot hold this name; give it another")
    return name


def _digits(name: str, scale: float) -> str:
    if not math.isfinite(scale) or scale < 0:
        raise ConfigError(f"tensor {name!r} has scale {scale:g}, expected 0 or a positive number")
    try:
        packed = _FLOAT.pack(scale)
    except OverflowError:
        raise ConfigError(f"tensor {name!r} has scale {scale:g}, expected what a float32 can hold") from None
    return packed.hex() if scale and any(packed) else "0"
