"""The calibrators of TensorRT 10 and older: its classes, over a feed that knows nothing of TensorRT.

TensorRT swallows what a callback raises, takes it for the end of the frames, and builds on with what it has
seen so far. So a feed's exception is kept, and raised by whoever started the build, once it has returned.

Surface-tested only: real bindings called these callbacks as the builder does; no engine was built with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeVar

import msgspec

from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import Bindings
from edgert.models.calibration_cache import Algorithm

T = TypeVar("T")

# The algorithm as a cache names it -> the class that runs it and reads its caches.
CALIBRATORS: dict[Algorithm, str] = {
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
    "EntropyCalibration": "IInt8EntropyCalibrator",
    "LegacyCalibration": "IInt8LegacyCalibrator",
}


class LegacyCutoffs(msgspec.Struct, frozen=True):
    """What `IInt8LegacyCalibrator` alone asks for, both 0 to 1."""

    quantile: float = 0.9999
    regression_cutoff: float = 1.0


class CalibrationFeed(Protocol):
    """Where a calibrator's frames and caches come from. All on the thread of the build."""

    batch_size: int

    def next_addresses(self, names: Sequence[str]) -> list[int] | None:
        """Return where the device finds the next batch of each input; None after the last.

        The memory stays as it is until the next call.
        """

    def load(self) -> bytes | None:
        """Return a cache to take instead of frames; None: there is none."""

    def save(self, cache: bytes) -> None:
        """Keep what was found."""


class Calibrator(Protocol):
    """An object of one of TensorRT's classes, for `IBuilderConfig.int8_calibrator`.

    Whoever builds holds it until the build has ended: given back by the configuration, it is another object.
    """

    def raise_failure(self) -> None:
        """Raise what the feed raised, as it was. To be called once the build has returned, always."""


class GuardedFeed:
    """A feed whose first exception is kept; then it has no more frames, no cache, and keeps nothing.

    `on_failure` may stop the build, which would otherwise go on for minutes.
    """

    def __init__(self, feed: CalibrationFeed, on_failure: Callable[[], None]) -> None:
        self.failure: BaseException | None = None
        self._feed = feed
        self._on_failure = on_failure

    def next_addresses(self, names: Sequence[str]) -> list[int] | None:
        """As the feed's."""
        return self._ask(lambda: self._feed.next_addresses(names))

    def load(self) -> bytes | None:
        """As the feed's."""
        return self._ask(self._feed.load)

    def save(self, cache: bytes) -> None:
        """As the feed's."""
        self._ask(lambda: self._feed.save(cache))

    def _ask(self, question: Callable[[], T]) -> T | None:
        if self.failure is None:
            with self:
                return question()
        return None

    def __enter__(self) -> None:
        """Keep what is raised from here on."""

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.failure = failure
        if failure is not None:
            self._on_failure()
        return True


def check_calibrators(bindings: Bindings) -> None:
    """Raise ConfigError if this runtime has no calibrators that do anything."""
    if not bindings.has_calibrators:
        raise ConfigError(
            f"{bindings.title} has no calibrators, they ended with TensorRT 10: INT8 is in the model. "
            "Let edgert calibrate insert Q/DQ nodes, which is its main route, and build that model"
        )


def open_calibrator(
    module: Any,
    algorithm: Algorithm,
    feed: CalibrationFeed,
    on_failure: Callable[[], None] = lambda: None,
    cutoffs: LegacyCutoffs | None = None,
) -> Calibrator:
    """Return the runtime's calibrator over a feed; `on_failure` is told of what the feed raises."""
    base = getattr(module, CALIBRATORS[algorithm])
    return _calibrator_over(base, GuardedFeed(feed, on_failure), feed.batch_size, cutoffs or LegacyCutoffs())


def _calibrator_over(base: Any, feed: GuardedFeed, batch_size: int, cutoffs: LegacyCutoffs) -> Calibrator:
    class OwnCalibrator(_Callbacks, base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # without it the bindings crash
            self._feed, self._batch_size, self._cutoffs = feed, batch_size, cutoffs

    return OwnCalibrator()


class _Callbacks:
    """What TensorRT calls, by the names that it has for it."""

    _feed: GuardedFeed
    _batch_size: int
    _cutoffs: LegacyCutoffs

    def raise_failure(self) -> None:
        """Raise what was kept, if anything was."""
        if self._feed.failure is not None:
            raise self._feed.failure

    def get_batch_size(self) -> int:
        return self._batch_size

    def get_batch(self, names: list[str]) -> list[int] | None:
        return self._feed.next_addresses(names)

    def read_calibration_cache(self) -> bytes | None:
        return self._feed.load()

    def write_calibration_cache(self, cache: memoryview) -> None:
        self._feed.save(bytes(cache))  # TensorRT's own memory, for this call only

    def get_quantile(self) -> float:
        return self._cutoffs.quantile

    def get_regression_cutoff(self) -> float:
        return self._cutoffs.regression_cutoff

    def read_histogram_cache(self, length: int) -> None:
        """Return none: the bindings have no way to say how long it is."""

    def write_histogram_cache(self, content: object, length: int) -> None:
        """Keep nothing, as it could not be read."""
