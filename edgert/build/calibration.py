"""INT8 ranges that TensorRT 10 and older find, or take from a cache, while they build.

Surface-tested only: the classes were made with real bindings, no engine was built with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from edgert.build.progress import BuildProgress
from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import Bindings
from edgert.execute.tensorrt_calibrator import Calibrator, open_calibrator
from edgert.models.calibration_cache import CalibrationCache, read_calibration_cache
from edgert.models.tensor_spec import TensorSpec

# Opens what a build calibrates with, until it has ended. It is told the inputs with the shapes to calibrate
# with, and cancels the progress if its frames end early, as the builder would go on with what it has.
OpenCalibrator = Callable[[Bindings, Sequence[TensorSpec], BuildProgress], AbstractContextManager[Calibrator]]


def calibrator_of_cache(file: Path) -> OpenCalibrator:
    """Return what opens a calibrator that only reads `file`; opening raises ConfigError if it is no cache."""

    @contextmanager
    def opened(
        bindings: Bindings, _inputs: Sequence[TensorSpec], progress: BuildProgress
    ) -> Iterator[Calibrator]:
        try:
            cache = read_calibration_cache(file)
        except ConfigError as error:
            raise ConfigError(f"--calibration-cache {error}") from error
        yield open_calibrator(bindings.module, cache.algorithm, CachedFeed(file, cache), progress.cancel)

    return opened


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
