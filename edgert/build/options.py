"""What one build was asked for, and what the runtimes refuse of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from edgert.build.shapes import Profile
from edgert.errors import ConfigError
from edgert.execute.tensorrt_bindings import Bindings, TensorRTRuntime
from edgert.models.calibration_cache import Algorithm

Precision = Literal["fp32", "fp16", "int8"]
HardwareCompatibility = Literal["none", "same_compute_capability", "ampere_plus"]

# Which runtime builds for which.
BUILDER_OF: dict[TensorRTRuntime, Literal["tensorrt", "tensorrt_rtx"]] = {
    "tensorrt": "tensorrt",
    "tensorrt_lean": "tensorrt",
    "tensorrt_dispatch": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
}
_NO_BUILDER = frozenset({"tensorrt_lean", "tensorrt_dispatch"})


class Reduction(msgspec.Struct, frozen=True):
    """Which boxes of a detector leave the GPU."""

    top_k: int
    boxes: str | None = None  # names of the outputs; None: as the model's [decode] says
    scores: str | None = None


class BuildOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One engine to be built."""

    model: Path
    store: Path
    name: str
    runtime: TensorRTRuntime
    like: str = ""  # a model of the store whose settings and labels a new model takes over
    precision: Precision = "fp32"
    batches: tuple[int, ...] = ()  # a profile for each
    shapes: tuple[Profile, ...] = ()
    fixed_batch: int | None = None  # the engine runs batches of this size and no others
    workspace_mb: int | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = "none"
    timing_cache: Path | None = None
    calibration_cache: Path | None = None
    calibrator: Algorithm | None = None  # TensorRT calibrates with it while it builds; its frames come apart
    dla_core: int | None = None
    reduction: Reduction | None = None
    compute: tuple[str, ...] = ()  # capabilities such as 8.6; empty: the runtime's own choice
    frames: tuple[Path, ...] = ()  # pictures for the comparison
    tolerance: float | None = None
    forced: bool = False
    keep_previous: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return what differs from the defaults, for the manifest; paths by their last name."""
        left_out = {"model", "store", "name", "frames", "like"}
        stated = msgspec.structs.asdict(self)
        defaults = {field.name: field.default for field in msgspec.structs.fields(self)}
        return {
            key: _plain(value)
            for key, value in stated.items()
            if key not in left_out and value != defaults[key]
        }


def check_options(options: BuildOptions, bindings: Bindings, *, has_device: bool) -> None:
    """Raise ConfigError for what this runtime, or this machine, cannot do."""
    complaints = [
        *(_about_rtx(options) if bindings.runtime == "tensorrt_rtx" else _about_tensorrt(options, bindings)),
        *_about_precision(options, bindings),
        *([] if has_device else _about_no_device(options)),
    ]
    if complaints:
        raise ConfigError(f"{bindings.title}: " + "; ".join(complaints))


def completed(options: BuildOptions) -> BuildOptions:
    """Return the options with what the runtime implies: lean and dispatch run no other plans."""
    if options.runtime not in _NO_BUILDER:
        return options
    return msgspec.structs.replace(options, version_compatible=True)


def _about_rtx(options: BuildOptions) -> list[str]:
    asked = {
        "--version-compatible: its plans run with the version that built them; leave it out": (
            options.version_compatible
        ),
        "--hardware-compatible: give --compute, or neither for all that it supports": (
            options.hardware_compatibility != "none"
        ),
        "--timing-cache: it times nothing while it builds; leave it out": options.timing_cache is not None,
        "--dla-core: it has no DLA; build with --runtime tensorrt": options.dla_core is not None,
    }
    return [complaint for complaint, is_asked in asked.items() if is_asked]


def _about_tensorrt(options: BuildOptions, bindings: Bindings) -> list[str]:
    complaints = []
    if options.compute:
        complaints.append("--compute: it builds for the GPU that it runs on; build on that device")
    same = options.hardware_compatibility == "same_compute_capability"
    if same and not bindings.has_same_compute_capability:
        complaints.append("--hardware-compatible same_compute_capability: needs 10.9 or later")
    if options.dla_core is not None and options.precision == "fp32":
        complaints.append("--dla-core: the DLA has no FP32; give --precision fp16 or int8")
    return complaints


def _about_precision(options: BuildOptions, bindings: Bindings) -> list[str]:
    if options.calibration_cache is None:
        return []
    if options.precision != "int8":
        return [f"--calibration-cache: is for --precision int8, not {options.precision}"]
    if bindings.has_calibrators:
        return []
    return ["--calibration-cache: it has no calibrators, INT8 stands in the model; give one with Q/DQ nodes"]


def _about_no_device(options: BuildOptions) -> list[str]:
    if options.timing_cache is None or options.runtime == "tensorrt_rtx":
        return []
    return ["--timing-cache: asks for a GPU, and there is none here; build on the device, or leave it out"]


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    return msgspec.to_builtins(value)
