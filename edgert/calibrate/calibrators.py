"""TensorRT 10 and older calibrate while they build: feeds them prepared batches, keeps what they find.

Surface-tested only, with the real bindings of 10.3 to 10.16: no engine was built here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgert.device.driver import Driver, Stream
from edgert.device.memory import Buffer, MemoryKind
from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import Bindings
from edgert.execute.tensorrt_calibrator import LegacyCutoffs, check_calibrators, open_calibrator
from edgert.frames.result import Array
from edgert.models.calibration_cache import (
    Algorithm,
    CalibrationCache,
    parse_calibration_cache,
    read_calibration_cache,
    write_calibration_cache,
)
from edgert.models.tensor_spec import TensorSpec

Batch = Mapping[str, Array]  # by the network's inputs, as prepare makes them: (frames, ...)

_OWNER = "calibration"


class CalibratorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How TensorRT calibrates."""

    algorithm: Algorithm = "EntropyCalibration2"  # the one that the DLA takes
    cache: Path | None = None  # where what it finds is written
    reuses_cache: bool = False  # and taken from, if it is there, instead of frames
    cutoffs: LegacyCutoffs = LegacyCutoffs()


class Calibration:
    """One calibration, from before the build until after it."""

    def __init__(self, calibrator: Any, feed: BatchFeed, undo: ExitStack) -> None:
        self.calibrator = calibrator  # for IBuilderConfig.int8_calibrator
        self._feed = feed
        self._undo = undo

    @property
    def batches(self) -> int:
        """How many batches TensorRT has taken; 0 if it took a cache."""
        return self._feed.batches

    @property
    def cache(self) -> CalibrationCache | None:
        """What TensorRT found, or took; None before. Raises ConfigError if it cannot be read."""
        found = self._feed.found
        return None if found is None else parse_calibration_cache(found, Path("TensorRT's cache"))

    def raise_failure(self) -> None:
        """Raise what ended the frames early, as it was. To be called once the build has returned, always."""
        self.calibrator.raise_failure()

    def close(self) -> None:
        """Free the device's memory. The build has ended."""
        self._undo.close()


def open_calibration(
    bindings: Bindings,
    inputs: Sequence[TensorSpec],
    batches: Iterable[Batch],
    driver: Driver,
    options: CalibratorOptions,
    *,
    on_batch: Callable[[int], None] | None = None,
    on_failure: Callable[[], None] = lambda: None,
) -> Calibration:
    """Return a calibration, its memory allocated.

    Args:
        bindings: The TensorRT that builds.
        inputs: The network's inputs with the shapes of the calibration profile, every side known.
        batches: Frames as the network takes them. One with fewer frames than a batch is filled up with them.
        driver: The device that builds, open.
        options: Algorithm and files.
        on_batch: Hears how many batches were given. What it raises, on the build's thread, ends the frames.
        on_failure: Hears, on that thread too, that the frames have ended early; may stop the build.

    Raises:
        ConfigError: this TensorRT has no calibrators, or a cache to be reused is damaged or of another
            algorithm, or there is no folder for it, or an input has a variable side.
        OutOfDeviceMemoryError: there is no room for one batch.
    """
    check_calibrators(bindings)
    _check_shapes(inputs)
    reused = _reused(options)
    with ExitStack() as undo:
        places = {spec.name: _open_place(spec, driver, undo) for spec in inputs}
        stream = driver.open_stream()
        undo.callback(_close_stream, driver, stream)
        feed = BatchFeed(places, batches, driver, stream, options.cache, reused, on_batch)
        calibrator = open_calibrator(bindings.module, options.algorithm, feed, on_failure, options.cutoffs)
        return Calibration(calibrator, feed, undo.pop_all())


class _Place(NamedTuple):
    """Where one input's batch lies: on the host to be filled, and on the device."""

    spec: TensorSpec
    staged: Array
    pinned: Buffer
    buffer: Buffer


class BatchFeed:
    """Puts one batch after another into the device's memory, always the same. On the thread of the build."""

    def __init__(
        self,
        places: Mapping[str, _Place],
        batches: Iterable[Batch],
        driver: Driver,
        stream: Stream,
        file: Path | None,
        reused: bytes | None,
        on_batch: Callable[[int], None] | None,
    ) -> None:
        self.batches = 0
        self.batch_size = next(iter(places.values())).spec.shape[0]
        self.found = reused
        self._places = places
        self._next = iter(batches)
        self._driver = driver
        self._stream = stream
        self._file = file
        self._reused = reused
        self._on_batch = on_batch

    def next_addresses(self, names: Sequence[str]) -> list[int] | None:
        """Return where the next batch is, once it is there. Raises ConfigError, and what `batches` raises."""
        batch = next(self._next, None)
        if batch is None:
            if not self.batches:
                raise ConfigError(
                    "There is no frame to calibrate with, expected one at least (500 are advised)"
                )
            return None
        self._check_names(names, batch)
        for name in names:
            _stage(batch[name], self._places[name], f"calibration batch {self.batches}, input {name!r}")
        self._upload(names)
        self.batches += 1
        if self._on_batch is not None:
            self._on_batch(self.batches)
        return [self._places[name].buffer.address for name in names]

    def load(self) -> bytes | None:
        """Return the cache to be reused."""
        return self._reused

    def save(self, cache: bytes) -> None:
        """Write what was found. Raises ConfigError."""
        self.found = cache
        if self._file is not None:
            write_calibration_cache(self._file, cache)

    def _upload(self, names: Sequence[str]) -> None:
        """Copy and wait: TensorRT reads on a stream of its own."""
        with self._driver.current():
            for place in map(self._places.__getitem__, names):
                self._stream.copy(place.buffer.address, place.pinned.address, place.staged.nbytes)
            self._stream.synchronize()

    def _check_names(self, names: Sequence[str], batch: Batch) -> None:
        if set(names) != set(self._places) or not set(names) <= set(batch):
            raise ConfigError(
                f"Calibration batch {self.batches} has the inputs {', '.join(batch)}; expected "
                f"{', '.join(self._places)}, and TensorRT asks for {', '.join(names)}"
            )


def _stage(frames: Array, place: _Place, where: str) -> None:
    """Write frames into a place, from the first again until it is full."""
    staged = place.staged
    count, wanted = len(frames) if frames.ndim else 0, len(staged)
    if frames.dtype != staged.dtype or frames.shape[1:] != staged.shape[1:] or not 0 < count <= wanted:
        raise ConfigError(
            f"{where}: is {frames.dtype} {frames.shape}, expected {staged.dtype} {staged.shape}, or fewer "
            "frames of that"
        )
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        raise ConfigError(f"{where}: holds NaN or Inf, expected finite values. Look at how it is prepared")
    for start in range(0, wanted, count):
        staged[start : start + count] = frames[: wanted - start]


def _open_place(spec: TensorSpec, driver: Driver, undo: ExitStack) -> _Place:
    dtype = np.dtype(spec.dtype)
    size_bytes = int(np.prod(spec.shape, dtype=np.int64)) * dtype.itemsize
    pinned = driver.allocate(size_bytes, MemoryKind.PINNED, _OWNER)
    undo.callback(pinned.free)
    buffer = driver.allocate(size_bytes, MemoryKind.DEVICE, _OWNER)
    undo.callback(buffer.free)
    return _Place(spec, pinned.view_u8.view(dtype).reshape(spec.shape), pinned, buffer)


def _close_stream(driver: Driver, stream: Stream) -> None:
    with driver.current():
        stream.close()


def _check_shapes(inputs: Sequence[TensorSpec]) -> None:
    for spec in inputs:
        if not spec.shape or min(spec.shape) < 1:
            raise ConfigError(
                f"Input {spec.name!r} has shape {list(spec.shape)}, expected the shape to calibrate with, "
                "batch first: every side 1 or more"
            )


def _reused(options: CalibratorOptions) -> bytes | None:
    """Return the cache that is there and is to be taken. Raises ConfigError, also if none can be written."""
    if options.cache is None:
        return None
    if not options.cache.parent.is_dir():
        raise ConfigError(f"{options.cache}: expected a folder {options.cache.parent} to write the cache to")
    if not options.reuses_cache or not options.cache.exists():
        return None
    cache = read_calibration_cache(options.cache)
    if cache.algorithm != options.algorithm:
        raise ConfigError(
            f"{options.cache}: was made with {cache.algorithm}, expected {options.algorithm}. Remove it, or "
            "calibrate with the algorithm that it names"
        )
    return cache.encode()
