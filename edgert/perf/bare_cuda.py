"""The plain loop on a GPU: pycuda and execution contexts, without edgert's lanes, allocator and graphs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pycuda.driver as cuda

from edgert.device.opened import OpenDevice
from edgert.errors import DeviceError, ModelError, OutOfDeviceMemoryError
from edgert.execute.engine import EngineInfo
from edgert.execute.runtime_config import RuntimeConfigs
from edgert.execute.tensorrt_bindings import Bindings, TensorRTRuntime, load_bindings
from edgert.execute.tensorrt_log import EngineLog
from edgert.frames.result import Array
from edgert.perf.fills import Batch
from edgert.perf.target import Target

Copy = tuple[Array, Any]  # pinned memory and its device memory


class ContextSlot:
    """A `bare.Slot`. The driver is current on the calling thread."""

    def __init__(self, context: Any, stream: Any, inputs: Sequence[Copy], outputs: Sequence[Copy]) -> None:
        self._context = context
        self._stream = stream
        self._inputs = inputs
        self._outputs = outputs

    def enqueue(self) -> None:
        """Enqueue everything. Raises ModelError, DeviceError."""
        try:
            for pinned, memory in self._inputs:
                cuda.memcpy_htod_async(memory, pinned, self._stream)
            if not self._context.execute_async_v3(self._stream.handle):
                raise ModelError("--bare: the engine did not run")
            for pinned, memory in self._outputs:
                cuda.memcpy_dtoh_async(pinned, memory, self._stream)
        except cuda.Error as error:
            raise DeviceError(f"--bare: the GPU refused a batch: {error}") from error

    def wait(self) -> None:
        """Wait for the stream. Raises DeviceError."""
        try:
            self._stream.synchronize()
        except cuda.Error as error:
            raise DeviceError(f"--bare: the GPU failed at a batch: {error}") from error


class _Loaded:
    """An engine with what has to outlive it."""

    def __init__(self, bindings: Bindings, file: Path, info: EngineInfo, *, host_code_allowed: bool) -> None:
        """Raises ModelError, or what TensorRT's log says."""
        self.trt = bindings.module
        self._log = EngineLog(self.trt, file)
        self._runtime = self.trt.Runtime(self._log.logger)
        self._runtime.engine_host_code_allowed = host_code_allowed
        self.engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        if self.engine is None:
            raise self._log.explain(f"--bare: {file}: TensorRT does not load it")
        self._configs = RuntimeConfigs(bindings, self.engine, info, file)

    def open_context(self) -> Any:
        """Return a context with the same kernels as edgert's: it is the loops that are compared."""
        context = self.engine.create_execution_context(self._configs.for_context(allocates_scratch=True))
        if context is None:
            raise self._log.explain("--bare: no execution context")
        return context

    def outputs(self) -> Iterator[tuple[str, Any]]:
        """Yield name and NumPy type of each output."""
        for name in map(self.engine.get_tensor_name, range(self.engine.num_io_tensors)):
            if self.engine.get_tensor_mode(name) == self.trt.TensorIOMode.OUTPUT:
                yield name, self.trt.nptype(self.engine.get_tensor_dtype(name))


@contextmanager
def open_slots(
    target: Target, info: EngineInfo, device: OpenDevice, batches: Sequence[Batch], count: int
) -> Iterator[list[ContextSlot]]:
    """Load the engine once more, with `count` contexts that have run once.

    Slot by slot they hold the batches in turn. The engine's plugins were loaded before, by edgert's own
    engine: a process has them once.

    Raises:
        OutOfDeviceMemoryError: there is no room for it.
    """
    bindings = load_bindings(cast("TensorRTRuntime", target.runtime))
    with device.driver.current(), ExitStack() as undo:
        loaded = _Loaded(bindings, target.file, info, host_code_allowed=target.engine.host_code_allowed)
        slots: list[ContextSlot] = []
        try:
            for index in range(count):
                slots.append(_open_slot(loaded, batches[index % len(batches)], undo))
                slots[-1].enqueue()  # TensorRT-RTX compiles now, for seconds
                slots[-1].wait()
            yield slots
        except cuda.MemoryError as error:
            raise OutOfDeviceMemoryError(f"--bare: the GPU has no room for {count} contexts") from error
        finally:
            slots.clear()  # their contexts go before the memory that they use


def _open_slot(loaded: _Loaded, batch: Batch, undo: ExitStack) -> ContextSlot:
    context, stream = loaded.open_context(), cuda.Stream()
    _choose_profile(loaded.engine, context, batch, stream)
    inputs, outputs = [], []
    for name, array in batch.items():
        if not context.set_input_shape(name, array.shape):
            raise ModelError(f"--bare: the engine refuses {name} {list(array.shape)}")
        inputs.append(_allocate(context, name, array.shape, array.dtype, undo))
        inputs[-1][0][...] = array
    for name, dtype in loaded.outputs():
        outputs.append(_allocate(context, name, tuple(context.get_tensor_shape(name)), dtype, undo))
    return ContextSlot(context, stream, inputs, outputs)


def _choose_profile(engine: Any, context: Any, batch: Batch, stream: Any) -> None:
    """Let the context run the first profile that covers the batch; a fresh one runs the first of all."""
    for index in range(engine.num_optimization_profiles):
        if all(_covers(engine.get_tensor_profile_shape(name, index), batch[name].shape) for name in batch):
            if index:
                context.set_optimization_profile_async(index, stream.handle)
                stream.synchronize()
            return


def _covers(profile: Any, shape: tuple[int, ...]) -> bool:
    smallest, _, largest = profile
    return all(low <= side <= high for low, side, high in zip(smallest, shape, largest, strict=True))


def _allocate(context: Any, name: str, shape: tuple[int, ...], dtype: Any, undo: ExitStack) -> Copy:
    pinned = cuda.pagelocked_empty(shape, dtype)
    undo.callback(pinned.base.free)
    memory = cuda.mem_alloc(max(pinned.nbytes, 1))
    undo.callback(memory.free)
    if not context.set_tensor_address(name, int(memory)):
        raise ModelError(f"--bare: the engine refuses an address for {name}")
    return pinned, memory
