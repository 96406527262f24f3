"""The builder's configuration: profiles, precision, memory, compatibility, DLA, timing cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgert.build.network import ParsedNetwork
from edgert.build.options import BuildOptions
from edgert.build.shapes import Profile
from edgert.disk import replace_file
from edgert.errors import ConfigError, DeviceError, ModelError
from edgert.execute.tensorrt_calibrator import Calibrator


def configure(
    parsed: ParsedNetwork,
    options: BuildOptions,
    profiles: Sequence[Profile],
    monitor: Any,
    calibrator: Calibrator | None = None,
) -> Any:
    """Return an IBuilderConfig. Raises ConfigError, DeviceError, ModelError for what the builder refuses.

    Of TensorRT itself only names and order of the calls were tried, as it needs a GPU; TensorRT-RTX was run.
    """
    trt, config = parsed.bindings.module, parsed.builder.create_builder_config()
    config.progress_monitor = monitor
    added = [_add_profile(parsed, config, profile) for profile in profiles]
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if parsed.bindings.has_precision_flags:
        _set_precision(parsed, config, options)
    if calibrator is not None:
        _set_calibrator(parsed, config, calibrator, added)
    if options.version_compatible:
        _set_version_compatible(trt, config, options)
    if options.hardware_compatibility != "none":
        level = getattr(trt.HardwareCompatibilityLevel, options.hardware_compatibility.upper())
        config.hardware_compatibility_level = level
    if options.dla_core is not None:
        _set_dla(parsed, config, options.dla_core)
    if options.compute:
        _set_compute(parsed, config, options.compute)
    if options.timing_cache is not None:
        _set_timing_cache(config, options.timing_cache)
    return config


def save_timing_cache(config: Any, file: Path) -> None:
    """Write what the builder has timed; a reader sees the old cache or the new one. Raises ConfigError."""
    try:
        replace_file(file, config.get_timing_cache().serialize())
    except OSError as error:
        raise ConfigError(f"--timing-cache {file}: cannot be written: {error.strerror}") from error


def _add_profile(parsed: ParsedNetwork, config: Any, profile: Profile) -> Any:
    added = parsed.builder.create_optimization_profile()
    for name, shapes in profile.items():
        added.set_shape(name, shapes.minimum, shapes.optimum, shapes.maximum)
    if config.add_optimization_profile(added) < 0:
        stated = {name: [*map(list, (s.minimum, s.optimum, s.maximum))] for name, s in profile.items()}
        raise ConfigError(f"{parsed.bindings.title} refuses the profile {stated}; give other --shapes")
    return added


def _set_precision(parsed: ParsedNetwork, config: Any, options: BuildOptions) -> None:
    """Allow the precision where the builder chooses it; INT8 leaves the rest of the network in FP16."""
    flags = parsed.bindings.module.BuilderFlag
    if options.precision != "fp32":
        config.set_flag(flags.FP16)
    if options.precision == "int8":
        config.set_flag(flags.INT8)


def _set_calibrator(
    parsed: ParsedNetwork, config: Any, calibrator: Calibrator, profiles: Sequence[Any]
) -> None:
    """Calibrate; inputs that vary have the best shapes of the first profile then."""
    config.int8_calibrator = calibrator
    if profiles and not config.set_calibration_profile(profiles[0]):
        raise ModelError(f"{parsed.bindings.title} refuses to calibrate with its first profile")


def _set_version_compatible(trt: Any, config: Any, options: BuildOptions) -> None:
    """Later versions may run the plan. It carries a lean runtime, unless lean itself is what will run it."""
    config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.runtime == "tensorrt_lean":
        config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)


def _set_dla(parsed: ParsedNetwork, config: Any, core: int) -> None:
    """Run on a DLA core what it can, the rest on the GPU."""
    trt, cores = parsed.bindings.module, parsed.builder.num_DLA_cores
    if core >= cores:
        raise DeviceError(
            f"--dla-core {core}: {parsed.bindings.title} finds {cores} DLA cores here. "
            "DLA is on Xavier and Orin; TensorRT 10.8 to 11.3 cannot use it"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_compute(parsed: ParsedNetwork, config: Any, capabilities: Sequence[str]) -> None:
    kinds = parsed.bindings.module.ComputeCapability
    known = {f"{name[2:-1]}.{name[-1]}": kind for name, kind in kinds.__members__.items() if name[:2] == "SM"}
    if unknown := [capability for capability in capabilities if capability not in known]:
        raise ConfigError(
            f"--compute {unknown[0]}: expected one or more of {','.join(known)}, for which "
            f"{parsed.bindings.title} can build. Leave it out to build for all that it supports"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        if not config.set_compute_capability(known[capability], index):
            raise ConfigError(f"--compute {capability}: {parsed.bindings.title} refuses it; leave it out")


def _set_timing_cache(config: Any, file: Path) -> None:
    try:
        content = file.read_bytes() if file.exists() else b""
    except OSError as error:
        raise ConfigError(f"--timing-cache {file}: cannot be read: {error.strerror}") from error
    if not config.set_timing_cache(config.create_timing_cache(content), ignore_mismatch=False):
        raise ConfigError(
            f"--timing-cache {file}: was made by another version of TensorRT or on another device; "
            "give another file, which will be made"
        )
