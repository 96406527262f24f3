"""INT8 from a calibration cache, for versions of TensorRT that have calibrators (10.x and older).

Surface-tested only: the classes were made with real bindings, no engine was built with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgert.errors import ConfigError

MAX_CACHE_BYTES = 64 << 20
# The algorithm in a cache's first line, `TRT-100300-EntropyCalibration2`, -> the class that reads it.
_CLASSES = {
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
    "EntropyCalibration": "IInt8EntropyCalibrator",
}


def open_cached_calibrator(module: Any, file: Path) -> Any:
    """Return the runtime's calibrator that only reads `file`. Raises ConfigError if it is no such cache."""
    content = _read(file)
    first_line = content.split(b"\n", maxsplit=1)[0].decode("ascii", "replace").strip()
    prefix, _, algorithm = first_line.rpartition("-")
    if not prefix.startswith("TRT-") or algorithm not in _CLASSES:
        raise ConfigError(
            f"--calibration-cache {file}: begins with {first_line[:60]!r}, expected TRT-<version>- and "
            "one of "
            f"{', '.join(_CLASSES)}"
        )
    return _reader_of(getattr(module, _CLASSES[algorithm]), content)


def _reader_of(base: Any, content: bytes) -> Any:
    class CachedCalibrator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # without it the bindings crash

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            """Return nothing: a tensor that is not in the cache fails the build."""

        def read_calibration_cache(self) -> bytes:
            return content

        def write_calibration_cache(self, cache: bytes) -> None:
            """Leave the file as it is."""

    return CachedCalibrator()


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_CACHE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--calibration-cache {file}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_CACHE_BYTES:
        raise ConfigError(f"--calibration-cache {file}: expected at most {MAX_CACHE_BYTES} bytes")
    return content
