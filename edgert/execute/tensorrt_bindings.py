"""The one door to TensorRT: its modules, and what differs between the versions that edgert runs with.

Other files get the module from `load_bindings`, call it `trt`, and ask `Bindings` before they use what is not
everywhere. What they use stands in `USED_NAMES`: it is looked up when the module is loaded, and
tests/contract/test_tensorrt_bindings.py looks it up in the bindings of all these versions.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from edgert.device.board import CudaDriverProbe, probe_cuda_driver
from edgert.errors import ConfigError, DeviceError

TensorRTRuntime = Literal["tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"]
Version = tuple[int, ...]

STREAM_FIRST = ("size", "alignment", "stream", "flags")
FLAGS_FIRST = ("size", "alignment", "flags", "stream")


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """What is not the same in every version. The defaults are TensorRT 10.3's."""

    # In which order `IGpuAsyncAllocator.allocate_async`, the one allocator that every version has, gets its
    # arguments, whatever its docstring says. `deallocate_async` gets (memory, stream) everywhere.
    allocate_order: tuple[str, str, str, str] = STREAM_FIRST
    has_builder: bool = True  # and network, parser, builder's configuration
    is_strongly_typed: bool = False  # precision comes from the network alone
    has_precision_flags: bool = True  # BuilderFlag.FP16 and its kind have an effect
    has_calibrators: bool = True
    has_same_compute_capability: bool = False  # HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
    has_compute_capabilities: bool = False  # the builder takes them, and needs no GPU
    has_engine_inspector: bool = True  # lean: `create_engine_inspector` is there, what it returns is not
    has_runtime_config: bool = False  # ICudaEngine.create_runtime_config
    has_runtime_cache: bool = False  # IRuntimeConfig.create_runtime_cache: what was compiled on the device
    has_standard_plugins: bool = True  # init_libnvinfer_plugins registers NVIDIA's own


_Changes = tuple[tuple[Version, dict[str, Any]], ...]

# From which version on, what is different. All seen in the bindings of that version and of the one before,
# but for 11.0, of which only 11.1 was seen.
_CHANGES: dict[str, _Changes] = {
    "tensorrt": (
        ((10, 9), {"has_same_compute_capability": True}),
        ((10, 11), {"has_runtime_config": True}),
        ((11, 0), {"is_strongly_typed": True, "has_precision_flags": False, "has_calibrators": False}),
        ((11, 2), {"allocate_order": FLAGS_FIRST}),
    ),
    "tensorrt_rtx": (
        (
            (1, 4),
            {
                "is_strongly_typed": True,
                "has_precision_flags": False,  # the names are still there in 1.4
                "has_calibrators": False,  # the classes are still there in 1.4
                "has_same_compute_capability": True,
                "has_compute_capabilities": True,
                "has_runtime_config": True,
                "has_runtime_cache": True,
                "has_standard_plugins": False,
            },
        ),
        ((1, 6), {"allocate_order": FLAGS_FIRST}),
    ),
}
_NOT_IN_LEAN = {
    "has_builder": False,
    "has_precision_flags": False,
    "has_calibrators": False,
    "has_engine_inspector": False,
    "has_standard_plugins": False,
}


class _Runtime(msgspec.Struct, frozen=True):
    module: str
    title: str
    wheel: str
    debian: str = ""
    oldest: Version = (10, 3)
    newest_major: int = 11

    @property
    def modules(self) -> tuple[str, str]:
        return self.module, f"{self.module}_bindings"  # the second: wheels without the front end

    @property
    def remedy(self) -> str:
        board = f"on a board apt install {self.debian} (and let the environment see it), elsewhere "
        return f"To install it: {board if self.debian else ''}pip install {self.wheel}"


_RUNTIMES: dict[TensorRTRuntime, _Runtime] = {
    "tensorrt": _Runtime("tensorrt", "TensorRT", "tensorrt", "python3-libnvinfer"),
    "tensorrt_lean": _Runtime(
        "tensorrt_lean", "TensorRT (lean)", "tensorrt-lean-cu13", "python3-libnvinfer-lean"
    ),
    "tensorrt_dispatch": _Runtime(
        "tensorrt_dispatch", "TensorRT (dispatch)", "tensorrt-dispatch-cu13", "python3-libnvinfer-dispatch"
    ),
    "tensorrt_rtx": _Runtime(
        "tensorrt_rtx", "TensorRT-RTX", "tensorrt-rtx-cu13", oldest=(1, 4), newest_major=1
    ),
}

# Where (a field of `Differences`, or empty: everywhere), the class (empty: the module), the names used.
USED_NAMES: tuple[tuple[str, str, str], ...] = (
    ("", "", "ILogger IGpuAsyncAllocator Runtime ExecutionContextAllocationStrategy TensorIOMode nptype"),
    ("", "", "LayerInformationFormat get_plugin_registry"),
    ("", "ILogger", "log"),
    ("", "IPluginRegistry", "load_library"),
    ("", "Runtime", "deserialize_cuda_engine engine_host_code_allowed gpu_allocator"),
    ("", "TensorIOMode", "INPUT OUTPUT"),
    ("", "ExecutionContextAllocationStrategy", "STATIC USER_MANAGED"),
    ("", "LayerInformationFormat", "JSON"),
    ("", "ICudaEngine", "num_io_tensors get_tensor_name get_tensor_mode get_tensor_dtype get_tensor_shape"),
    ("", "ICudaEngine", "num_optimization_profiles get_tensor_profile_shape is_shape_inference_io"),
    ("", "ICudaEngine", "device_memory_size_v2 get_device_memory_size_for_profile_v2"),
    ("", "ICudaEngine", "create_execution_context create_engine_inspector num_aux_streams refittable"),
    ("", "IExecutionContext", "set_input_shape get_tensor_shape set_tensor_address execute_async_v3"),
    ("", "IExecutionContext", "set_device_memory update_device_memory_size_for_shapes"),
    ("", "IExecutionContext", "set_optimization_profile_async profiler"),
    ("", "", "IProfiler"),
    ("", "IProfiler", "report_layer_time"),
    ("", "IGpuAsyncAllocator", "allocate_async deallocate_async reallocate"),
    ("has_engine_inspector", "EngineInspector", "get_engine_information"),
    ("has_standard_plugins", "", "init_libnvinfer_plugins"),
    ("has_runtime_config", "ICudaEngine", "create_runtime_config"),
    ("has_runtime_config", "IRuntimeConfig", "set_execution_context_allocation_strategy"),
    ("has_runtime_cache", "", "DynamicShapesKernelSpecializationStrategy"),
    ("has_runtime_cache", "IRuntimeConfig", "create_runtime_cache set_runtime_cache"),
    ("has_runtime_cache", "IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ("has_runtime_cache", "DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("has_runtime_cache", "IRuntimeCache", "serialize deserialize"),
    ("has_builder", "", "Builder OnnxParser BuilderFlag MemoryPoolType DeviceType IProgressMonitor"),
    ("has_builder", "", "HardwareCompatibilityLevel NetworkDefinitionCreationFlag"),
    ("has_builder", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
    ("has_builder", "Builder", "create_network create_builder_config create_optimization_profile"),
    ("has_builder", "Builder", "build_serialized_network num_DLA_cores"),
    ("has_builder", "INetworkDefinition", "num_inputs get_input num_outputs get_output"),
    ("has_builder", "ITensor", "name dtype shape"),
    ("has_builder", "OnnxParser", "parse num_errors get_error"),
    ("has_builder", "ParserError", "node desc code"),
    ("has_builder", "IOptimizationProfile", "set_shape"),
    ("has_builder", "IProgressMonitor", "phase_start step_complete phase_finish"),
    ("has_builder", "IBuilderConfig", "add_optimization_profile progress_monitor set_flag"),
    ("has_builder", "IBuilderConfig", "set_memory_pool_limit hardware_compatibility_level"),
    ("has_builder", "IBuilderConfig", "default_device_type DLA_core"),
    ("has_builder", "IBuilderConfig", "create_timing_cache get_timing_cache set_timing_cache"),
    ("has_builder", "ITimingCache", "serialize"),
    ("has_builder", "BuilderFlag", "VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME GPU_FALLBACK"),
    ("has_builder", "HardwareCompatibilityLevel", "AMPERE_PLUS"),
    ("has_builder", "MemoryPoolType", "WORKSPACE"),
    ("has_builder", "DeviceType", "DLA"),
    ("has_same_compute_capability", "HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"),
    ("has_compute_capabilities", "", "ComputeCapability"),
    ("has_compute_capabilities", "IBuilderConfig", "num_compute_capabilities set_compute_capability"),
    ("has_precision_flags", "BuilderFlag", "FP16 INT8"),
    ("has_calibrators", "", "IInt8EntropyCalibrator IInt8EntropyCalibrator2 IInt8MinMaxCalibrator"),
    ("has_calibrators", "", "IInt8LegacyCalibrator"),
    ("has_calibrators", "IBuilderConfig", "int8_calibrator set_calibration_profile"),
)


class Bindings(Differences, frozen=True, kw_only=True):
    """A TensorRT module that was loaded, and what is particular to it."""

    module: Any
    runtime: TensorRTRuntime
    version: Version  # major, minor, patch, and build where it is given

    @property
    def title(self) -> str:
        """The runtime and its version, for messages: `TensorRT 10.16.2`."""
        return f"{_RUNTIMES[self.runtime].title} {_dotted(self.version[:3])}"

    def network_flags(self, is_strongly_typed: bool = True) -> int:
        """Return what `Builder.create_network` is called with.

        Raises:
            ConfigError: this runtime has no builder, or builds strongly typed networks only.
        """
        if not self.has_builder:
            raise ConfigError(f"{self.title} cannot build engines. Install TensorRT or TensorRT-RTX for that")
        if self.is_strongly_typed and not is_strongly_typed:
            raise ConfigError(
                f"{self.title} takes precision from the model alone: convert the model itself to the "
                "precision wanted, or add Q/DQ nodes"
            )
        is_asked_for = is_strongly_typed and not self.is_strongly_typed
        return 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if is_asked_for else 0

    def scratch_bytes(self, engine: Any, profile: int | None = None) -> int:
        """Return the device memory that one execution context of an ICudaEngine needs at most."""
        if profile is None:
            return int(engine.device_memory_size_v2)
        return int(engine.get_device_memory_size_for_profile_v2(profile))


def load_bindings(
    runtime: TensorRTRuntime,
    needs_device: bool = True,
    probe: Callable[[], CudaDriverProbe] = probe_cuda_driver,
) -> Bindings:
    """Import the module of a runtime and check that edgert knows its version.

    The driver is asked first: where there is none, `trt.Runtime()` does not raise, the process crashes. With
    `needs_device` False it is not asked. Then TensorRT-RTX can build; of the others only names can be read.

    Raises:
        ConfigError: the module is missing, cannot be loaded, or has a version that edgert does not know.
        DeviceError: there is no CUDA driver that works.
    """
    known = _RUNTIMES[runtime]
    names = [name for name in known.modules if importlib.util.find_spec(name)]
    if not names:
        raise ConfigError(f'runtime = "{runtime}": {known.title} is not installed. {known.remedy}')
    if needs_device and (driver := probe()).version is None:
        raise DeviceError(
            f"{known.title} needs a CUDA driver; here it is {driver.problem}. Install NVIDIA's driver, or "
            "in a container pass the GPU in (--runtime nvidia)"
        )
    module = _import(names, known)
    version = _check_version(getattr(module, "__version__", ""), known)
    particular = msgspec.structs.asdict(differences_of(runtime, version))
    bindings = Bindings(module=module, runtime=runtime, version=version, **particular)
    if missing := list(missing_names(module, bindings)):
        raise ConfigError(f"{bindings.title} lacks what edgert uses: {', '.join(missing)}. {known.remedy}")
    return bindings


def differences_of(runtime: TensorRTRuntime, version: Version) -> Differences:
    """Return what is particular to a version of a runtime."""
    family = "tensorrt_rtx" if runtime == "tensorrt_rtx" else "tensorrt"
    differences = Differences()
    for since, changes in _CHANGES[family]:
        if version >= since:
            differences = msgspec.structs.replace(differences, **changes)
    if runtime in ("tensorrt_lean", "tensorrt_dispatch"):
        differences = msgspec.structs.replace(differences, **_NOT_IN_LEAN)
    return differences


def missing_names(module: Any, differences: Differences) -> Iterator[str]:
    """Yield which of `USED_NAMES` a module does not have, as `Class.name`."""
    for where, owner, names in USED_NAMES:
        if where and not getattr(differences, where):
            continue
        holder = getattr(module, owner, None) if owner else module
        for name in names.split():
            if not hasattr(holder, name):
                yield f"{owner}.{name}".lstrip(".")


def _import(names: list[str], known: _Runtime) -> Any:
    reasons = []
    for name in names:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:  # the library below it is missing or broken
            reasons.append(f"{name}: {error}")
    raise ConfigError(f"{known.title} is installed but cannot be loaded: {reasons[0]}. {known.remedy}")


def _check_version(text: str, known: _Runtime) -> Version:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)(?:\.(\d+))?", text)
    version = tuple(int(number) for number in found.groups() if number) if found else ()
    if not version or version < known.oldest or version[0] > known.newest_major:
        remedy = "Install a newer edgert" if version and version[0] > known.newest_major else known.remedy
        raise ConfigError(
            f"{known.title} {text or 'of unknown version'} is installed; edgert runs with "
            f"{_dotted(known.oldest)} to {known.newest_major}.x. {remedy}"
        )
    return version


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
