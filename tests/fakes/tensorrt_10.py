"""Stands in for the builder of TensorRT 10, which needs a GPU: notes what it is asked for, builds nothing."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

from edgert.execute.tensorrt_bindings import Bindings


class Flag(Enum):
    """`BuilderFlag`, as far as edgert uses it."""

    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3
    VERSION_COMPATIBLE = 15
    EXCLUDE_LEAN_RUNTIME = 16


class Config:
    """`IBuilderConfig`."""

    def __init__(self, *, takes_profiles=True, takes_cache=True, takes_calibration_profile=True):
        self.flags, self.profiles, self.pools = [], [], {}
        self.cache = None
        self.hardware_compatibility_level = None
        self.default_device_type = None
        self.DLA_core = -1
        self.int8_calibrator = None
        self.calibration_shapes = None
        self._takes_profiles, self._takes_cache = takes_profiles, takes_cache
        self._takes_calibration_profile = takes_calibration_profile

    def set_flag(self, flag):
        self.flags.append(flag)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1 if self._takes_profiles else -1

    def set_calibration_profile(self, profile):
        self.calibration_shapes = profile.shapes
        return self._takes_calibration_profile

    def set_memory_pool_limit(self, pool, size_bytes):
        self.pools[pool] = size_bytes

    def create_timing_cache(self, content):
        return SimpleNamespace(content=content, serialize=lambda: content + b"+timed")

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        self.cache = cache
        return self._takes_cache

    def get_timing_cache(self):
        return self.cache


class Profile:
    """`IOptimizationProfile`."""

    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, minimum, optimum, maximum):
        self.shapes[name] = (minimum, optimum, maximum)


class Calibrator:
    """`IInt8EntropyCalibrator2` and the others; without `__init__` the real ones crash."""

    initialised = False

    def __init__(self):
        self.initialised = True


class Monitor:
    """`IProgressMonitor`."""


def bindings(version=(10, 3, 0), **differences):
    """Return bindings over a stand-in of the module."""
    module = SimpleNamespace(
        BuilderFlag=Flag,
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        DeviceType=SimpleNamespace(DLA="dla"),
        HardwareCompatibilityLevel=SimpleNamespace(AMPERE_PLUS="ampere", SAME_COMPUTE_CAPABILITY="same"),
        IProgressMonitor=Monitor,
        IInt8EntropyCalibrator2=Calibrator,
        IInt8MinMaxCalibrator=Calibrator,
    )
    return Bindings(module=module, runtime="tensorrt", version=version, **differences)


def parsed(bindings, config, dla_cores=0, build=lambda config: b"plan"):
    """Return a `ParsedNetwork` over them; `build` returns the plan, or None as the builder does."""
    builder = SimpleNamespace(
        create_builder_config=lambda: config,
        create_optimization_profile=Profile,
        num_DLA_cores=dla_cores,
        build_serialized_network=lambda network, config: build(config),
    )
    return SimpleNamespace(bindings=bindings, builder=builder, network=None)


def calibrated(config, names, content, each=lambda addresses: None):
    """Calibrate as the builder does: take a cache, or frames to their end, which an error is too.

    Returns whether it goes on building: its monitor says so.
    """
    calibrator = config.int8_calibrator
    if calibrator.read_calibration_cache() is None:
        while (addresses := calibrator.get_batch(names)) is not None:
            each(addresses)
        calibrator.write_calibration_cache(memoryview(content))
    return config.progress_monitor.step_complete("build", 0)
