"""INT8 from a calibration cache, for versions of TensorRT that have calibrators (10.x and older).

Surface-tested only: the classes were made with real bindings, no engine was built with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgert.errors import ConfigError
from edgert.execute.tensorrt_calibrator import open_calibrator
from edgert.models.calibration_cache import CalibrationCache, read_calibration_cache


def open_cached_calibrator(module: Any, file: Path) -> Any:
    """Return the runtime's calibrator that only reads `file`. Raises ConfigError if it is no whole cache."""
    try:
        cache = read_calibration_cache(file)
    except ConfigError as error:
        raise ConfigError(f"--calibration-cache {error}") from error
    return open_calibrator(module, cache.algorithm, CachedFeed(file, cache))


class CachedFeed:
    """A cache and no frames."""

    batch_size = 1

    def __init__(self, file: Path, cache: CalibrationCache) -> None:
        self._file = file
        self._cache = cache

    def next_addresses(self, names: Sequence[str]) -> None:
        """Raise ConfigError: TensorRT asks for frames only if it does not take the cache."""
        raise ConfigError(
            f"--calibration-cache {self._file}: TensorRT refuses it; it was made by {self._cache.release} "
            f"with {self._cache.algorithm}. Calibrate again with the version that builds"
        )

    def load(self) -> bytes:
        """Return the cache as it was understood."""
        return self._cache.encode()

    def save(self, cache: bytes) -> None:
        """Leave the file as it is."""
