"""The second route: TensorRT 10 and older calibrate the FP32 model themselves, with the sampled frames.

Surface-tested only: real bindings called what is below it; no engine was built here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice

import msgspec
import numpy as np

from edgert.build.progress import BuildProgress
from edgert.calibrate.calibrators import Batch, Calibration, CalibratorOptions, open_calibration
from edgert.calibrate.recipe import Calibrator as CalibratorName
from edgert.calibrate.recipe import InstallOptions
from edgert.calibrate.sample.sample_set import SampleFrame
from edgert.calibrate.setting import Setting
from edgert.calibrate.work import WorkFolder, key_of
from edgert.device.opened import OpenDevice, open_device
from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import Bindings, load_bindings
from edgert.execute.tensorrt_calibrator import Calibrator, check_calibrators
from edgert.models.calibration_cache import Algorithm
from edgert.models.manifest import sha256_of
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.model_plan import has_batch_axis

TENSORRT_CACHE_FILE = "tensorrt.cache"
TENSORRT_STATE_FILE = "tensorrt.state"  # what the cache was made from, and its hash
ALGORITHMS: dict[CalibratorName, Algorithm] = {
    "entropy2": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
    "entropy": "EntropyCalibration",
    "legacy": "LegacyCalibration",
}
_PHASE = "calibrate with frames"


def check_route(
    setting: Setting, options: InstallOptions, load: Callable[..., Bindings] = load_bindings
) -> None:
    """Say before frames are taken whether TensorRT's calibrators can be had, if they are asked for.

    Raises:
        ConfigError: TensorRT is missing, or has none any more (the message names the main route), or the
            model takes no batches.
        DeviceError: there is no GPU that it could build on.
    """
    if options.calibrator is None:
        return
    where = f'{setting.recipe.path}: engine.calibrator = "{options.calibrator}"'
    try:
        check_calibrators(load("tensorrt", needs_device=False))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    if not has_batch_axis(setting.info):
        raise ConfigError(f"{where}: {setting.model.file.path} has no batch axis, which calibrators need")
    load("tensorrt")


class CalibratorRoute:
    """Calibrates during one build; what was found is in the folder of work, for the next one too."""

    def __init__(
        self,
        setting: Setting,
        algorithm: Algorithm,
        samples: Sequence[SampleFrame],
        device: Callable[[], OpenDevice] = lambda: open_device("cuda"),
    ) -> None:
        self._setting = setting
        self._algorithm = algorithm
        self._samples = samples
        self._device = device
        self._work = WorkFolder(setting.recipe.work)
        self._is_reused = False

    @property
    def note(self) -> str:
        """What a person has to know of the engine that was built."""
        taken = f"{len(self._samples)} frames"
        source = f"{TENSORRT_CACHE_FILE}, which an earlier run made of {taken}" if self._is_reused else taken
        return (
            f"TensorRT calibrated this engine itself ({self._algorithm}) with {source}. Thresholds and "
            "accuracy in the report are of the model with Q/DQ nodes, not of this engine"
        )

    @contextmanager
    def open(
        self, bindings: Bindings, inputs: Sequence[TensorSpec], progress: BuildProgress
    ) -> Iterator[Calibrator]:
        """An `OpenCalibrator`. Raises ConfigError, DeviceError, OutOfDeviceMemoryError."""
        key = self._key(bindings, inputs)
        options = CalibratorOptions(
            algorithm=self._algorithm,
            cache=self._work.path / TENSORRT_CACHE_FILE,
            reuses_cache=self._fits(key),
        )
        size = inputs[0].shape[0]
        steps = _Steps(progress, -(-len(self._samples) // size))
        with closing(self._device()) as device:
            calibration = open_calibration(
                bindings,
                inputs,
                self._batches(size),
                device.driver,
                options,
                on_batch=steps.count,
                on_failure=progress.cancel,
            )
            with closing(calibration):
                try:
                    yield calibration.calibrator
                finally:
                    self._is_reused = not calibration.batches
                    self._remember(key, calibration)

    def _batches(self, size: int) -> Iterator[Batch]:
        """Yield the frames as the main route sees them. Runs on the thread of the build."""
        frames = self._setting.frames(self._samples)
        for _ in range(0, len(self._samples), size):
            tensors = [frame.tensor for frame in islice(frames, size)]
            yield {self._setting.model.input_name: np.stack(tensors)}

    def _key(self, bindings: Bindings, inputs: Sequence[TensorSpec]) -> bytes:
        """Return a digest of all that the cache depends on."""
        model = self._setting.model.proto.SerializeToString(deterministic=True)
        prepare = msgspec.to_builtins(self._setting.plan.settings.prepare)
        frames = [sample.sha256 for sample in self._samples]
        return key_of(key_of(model), prepare, frames, tuple(inputs), bindings.title, self._algorithm)

    def _fits(self, key: bytes) -> bool:
        known = self._work.load(TENSORRT_STATE_FILE, key, str)
        file = self._work.path / TENSORRT_CACHE_FILE
        return known is not None and file.is_file() and sha256_of(file) == known

    def _remember(self, key: bytes, calibration: Calibration) -> None:
        """Say what the cache was made from, whatever became of the build behind it."""
        file = self._work.path / TENSORRT_CACHE_FILE
        with suppress(ConfigError):  # what edgert cannot read, or keep, is found again the next time
            if calibration.batches and calibration.cache is not None and file.is_file():
                self._work.save(TENSORRT_STATE_FILE, key, sha256_of(file))


class _Steps:
    """Tells the batches to the build's progress, and is told whether it goes on."""

    def __init__(self, progress: BuildProgress, total: int) -> None:
        self._progress = progress
        self._total = total

    def count(self, batches: int) -> None:
        """Note that so many batches were given. Raises KeyboardInterrupt if the build is to end."""
        if batches == 1:
            self._progress.phase_start(_PHASE, None, self._total)
        goes_on = self._progress.step_complete(_PHASE, batches - 1)
        if batches == self._total:
            self._progress.phase_finish(_PHASE)
        if not goes_on:
            raise KeyboardInterrupt
