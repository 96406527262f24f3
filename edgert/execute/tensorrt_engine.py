"""Prebuilt engines of TensorRT, its lean and dispatch runtimes, and TensorRT-RTX, on one implementation."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from edgert.device.opened import OpenDevice
from edgert.errors import EdgertError, ModelError
from edgert.execute.device_lane import open_device_lane
from edgert.execute.engine import DEFAULT_LANE, EngineDetails, Lane, LaneOptions
from edgert.execute.options import EngineOptions
from edgert.execute.plan_check import check_plan_file, check_version
from edgert.execute.runner import Runner, batch_sizes
from edgert.execute.runtime_config import RuntimeConfigs
from edgert.execute.tensorrt_allocator import OwnedMemory, make_allocator
from edgert.execute.tensorrt_bindings import Bindings, TensorRTRuntime, load_bindings
from edgert.execute.tensorrt_context import TensorRTContext
from edgert.execute.tensorrt_describe import read_details, read_info, read_profiles
from edgert.execute.tensorrt_log import EngineLog
from edgert.execute.tensorrt_plugins import load_plugins
from edgert.execute.tensorrt_profiler import make_profiler
from edgert.models.manifest import check_manifest


class TensorRTParts(msgspec.Struct):
    """What an engine was loaded with, in the order in which it has to be dropped."""

    engine: Any
    runtime: Any
    allocator: Any
    memory: OwnedMemory
    log: EngineLog
    bindings: Bindings


class TensorRTEngine:
    """An Engine. Its lanes share weights, allocator, log and, with TensorRT-RTX, compiled kernels."""

    is_driven = True

    def __init__(self, file: Path, parts: TensorRTParts, device: OpenDevice, owner: str) -> None:
        """Take over what was loaded. Raises ModelError if its tensors cannot be fed."""
        self._parts: TensorRTParts | None = parts
        self._device = device
        self._owner = owner
        self.info = read_info(file, parts.bindings, parts.engine)
        self._profiles = read_profiles(parts.engine, self.info)
        self._configs = RuntimeConfigs(parts.bindings, parts.engine, self.info, file)
        self._lanes_opened = 0

    def open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions = DEFAULT_LANE
    ) -> Lane:
        """Return a lane with a context for each profile. Raises OutOfDeviceMemoryError, ModelError."""
        return self._open_lane(max_batch, on_done, options, None)

    def open_profiled_lane(
        self, max_batch: int, on_done: Callable[[], None], on_layer: Callable[[str, float], None]
    ) -> Lane:
        """Return a lane that tells every layer of every batch, with its milliseconds; it is slower for it."""
        profiler = make_profiler(self._loaded().bindings, on_layer)
        return self._open_lane(max_batch, on_done, LaneOptions(graphs=0), profiler)

    def _open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions, profiler: Any
    ) -> Lane:
        self._lanes_opened += 1
        owner = f"{self._owner} lane {self._lanes_opened}"
        with self._device.driver.current(), ExitStack() as undo:
            contexts = []
            for index in self._profiles_up_to(max_batch):
                contexts.append(self._open_context(index, max_batch, owner, profiler))
                undo.callback(contexts[-1].close)
            scratch = self._device.scratch.of(options.scratch_group, self._owner)
            runner = Runner(contexts, self.info, scratch, self._sizes_up_to(max_batch), owner)
            undo.pop_all()
            return open_device_lane(runner, self.info, self._device, options, on_done, self._owner)

    def details(self) -> EngineDetails:
        """Return weights, scratch memory, profiles and layers."""
        with self._device.driver.current():
            return read_details(self._loaded(), self._profiles)

    def warmed(self) -> None:
        """Keep what TensorRT-RTX compiled, if it is new."""
        self._configs.keep()
        if self._parts is not None:
            self._parts.log.forget()

    def close(self) -> None:
        """Drop engine and runtime. Allowed again."""
        if self._parts is None:
            return
        with self._device.driver.current():
            self._configs.close()
            parts, self._parts = self._parts, None
            parts.engine = None
            parts.runtime = None

    def _loaded(self) -> TensorRTParts:
        if self._parts is None:
            raise ModelError(f"{self._owner}: the engine was closed.")
        return self._parts

    def _profiles_up_to(self, max_batch: int) -> list[int]:
        """Return the profiles that take a batch of at most `max_batch`. Raises ModelError if none does."""
        smallest = [
            max(own.minimum[0] for own in profile.values()) if self.info.batches else 0
            for profile in self._profiles
        ]
        fitting = [index for index, size in enumerate(smallest) if size <= max_batch]
        if not fitting:
            raise ModelError(
                f"{self._owner}: its profiles begin at batch {min(smallest)}; max_batch_size is {max_batch}."
            )
        return fitting

    def _sizes_up_to(self, max_batch: int) -> list[int]:
        """Return the sizes at which batches run; few where each costs seconds to compile."""
        sizes = {1, max_batch} if self._configs.compiles_each_shape else set(batch_sizes(max_batch))
        if self.info.batches:
            favourites = {own.optimum[0] for profile in self._profiles for own in profile.values()}
            sizes |= {size for size in favourites if size <= max_batch}
        return sorted(sizes)

    def _open_context(self, profile: int, max_batch: int, owner: str, profiler: Any) -> TensorRTContext:
        parts = self._loaded()
        parts.memory.refusal = None
        context = parts.engine.create_execution_context(self._configs.for_context())
        if context is None:
            raise parts.memory.refusal or parts.log.explain(f"{owner}: no execution context")
        if profiler is not None:
            context.profiler = profiler
        if profile:
            _choose_profile(context, profile, self._device)
        return TensorRTContext(
            context,
            self.info,
            self._profiles[profile],
            max_batch,
            parts.log,
            owner,
            needs_scratch=parts.bindings.scratch_bytes(parts.engine, profile) > 0,
        )


def load_tensorrt_engine(
    file: Path, runtime_name: TensorRTRuntime, options: EngineOptions, device: OpenDevice, owner: str
) -> TensorRTEngine:
    """Load a plan through a read-only mapping of its file. `owner` is whom its memory is counted for.

    Raises:
        EngineMismatchError: it was built for another runtime, version or device.
        ModelError: it is damaged, or has tensors that edgert cannot feed.
        OutOfDeviceMemoryError: no room for its weights.
        ConfigError: the runtime is not installed.
    """
    header, manifest = check_plan_file(file, runtime_name, options)
    bindings = load_bindings(runtime_name)
    if manifest is None:
        check_version(file, header, bindings)
    else:
        capability = str(device.driver.attributes().get("compute_capability", ""))
        check_manifest(manifest, file, runtime_name, bindings.version, capability)
    device.driver.budget.limit_owner(owner, options.memory_mb << 20)
    with device.driver.current():
        parts = _open_runtime(file, bindings, options, device, owner)
        parts.engine = _deserialize(file, parts)
        try:
            return TensorRTEngine(file, parts, device, owner)
        except EdgertError as refused:
            parts.engine = parts.runtime = None  # while the device is current
            refused.__cause__ = refused.__context__ = None  # whose tracebacks would keep them
            raise refused.with_traceback(None) from None


def _open_runtime(
    file: Path, bindings: Bindings, options: EngineOptions, device: OpenDevice, owner: str
) -> TensorRTParts:
    trt = bindings.module
    log = EngineLog(trt, file)
    load_plugins(bindings, log.logger, options.plugins, file.parent.parent)
    runtime = trt.Runtime(log.logger)
    memory = OwnedMemory(device.driver, owner)
    allocator = make_allocator(bindings, memory)
    runtime.gpu_allocator = allocator
    runtime.engine_host_code_allowed = options.host_code_allowed
    return TensorRTParts(None, runtime, allocator, memory, log, bindings)


def _deserialize(file: Path, parts: TensorRTParts) -> Any:
    """Return the engine. The file's pages are given back at once; the weights are on the device."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        try:
            engine = parts.runtime.deserialize_cuda_engine(view)
        finally:
            view.release()
        mapped.madvise(mmap.MADV_DONTNEED)
    if engine is None:
        raise parts.memory.refusal or parts.log.explain(f"{file}: TensorRT does not load it")
    return engine


def _choose_profile(context: Any, profile: int, device: OpenDevice) -> None:
    stream = device.driver.open_stream()
    try:
        if not context.set_optimization_profile_async(profile, stream.handle):
            raise ModelError(f"TensorRT refuses profile {profile}.")
        stream.synchronize()
    finally:
        stream.close()
