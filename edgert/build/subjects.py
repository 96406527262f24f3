"""Runs an engine of any runtime on arrays, one batch at a time; not for frames, for comparing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

import numpy as np

from edgert.device.memory import Buffer, MemoryKind
from edgert.device.opened import OpenDevice
from edgert.errors import ModelError
from edgert.execute.engine import BufferSet, DeviceTensor, Engine
from edgert.frames.result import Array

T = TypeVar("T")

RUN_TIMEOUT_S = 120.0  # TensorRT-RTX compiles kernels in the first run
_POLL_S = 0.001  # lanes of a device are polled, those of the host say when they are done


class EngineSubject:
    """A `compare.Subject` with one lane of the engine. Closes neither engine nor device."""

    def __init__(self, engine: Engine, device: OpenDevice, max_batch: int) -> None:
        """Raises OutOfDeviceMemoryError."""
        self._info = engine.info
        self._device = device
        self._news = threading.Event()
        self._staging: list[Buffer] = []
        with device.driver.current():
            self._lane = engine.open_lane(max_batch, self._news.set)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for one batch, copied. Raises ModelError, DeviceError."""
        batch = next(iter(inputs.values())).shape[0] if self._info.batches else None
        with self._device.driver.current():
            buffers = self._await(self._lane.acquire)
            self._lane.submit(buffers, partial(self._fill, inputs), None)
            [done] = self._await(self._lane.poll)
            try:
                if done.error:
                    raise done.error
                return {name: _rows(array, batch) for name, array in buffers.outputs().items()}
            finally:
                self._lane.release(buffers)
                self._free_staging()

    def close(self) -> None:
        """Close the lane."""
        with self._device.driver.current():
            self._lane.close()
        self._free_staging()

    def _fill(self, inputs: Mapping[str, Array], buffers: BufferSet) -> None:
        tensors = buffers.inputs({name: array.shape for name, array in inputs.items()})
        for name, tensor in tensors.items():
            array = np.ascontiguousarray(inputs[name])
            if not isinstance(tensor, DeviceTensor):
                np.copyto(tensor, array)
            elif buffers.stream is not None:
                staging = self._device.driver.allocate(array.nbytes, MemoryKind.PINNED, "comparison")
                self._staging.append(staging)
                staging.view_u8[: array.nbytes] = array.reshape(-1).view(np.uint8)
                buffers.stream.copy(tensor.address, staging.address, array.nbytes)

    def _free_staging(self) -> None:
        while self._staging:
            self._staging.pop().free()

    def _await(self, ask: Callable[[], T | None]) -> T:
        deadline_s = time.monotonic() + RUN_TIMEOUT_S
        while not (answer := ask()):
            if time.monotonic() > deadline_s:
                raise ModelError(f"The {self._info.runtime} engine gave no answer in {RUN_TIMEOUT_S} s.")
            self._news.wait(_POLL_S)
            self._news.clear()
        return answer


def _rows(array: Array, batch: int | None) -> Array:
    """Return a copy of the batch's part; None: of all, a scalar too."""
    return np.array(array if batch is None else array[:batch])
