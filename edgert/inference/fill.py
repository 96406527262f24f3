"""From a batch's requests to a lane's inputs: one copy of each tensor, two where a device stages them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import Protocol

import msgspec
import numpy as np

from edgert.device.memory import Buffer, MemoryKind
from edgert.device.opened import OpenDevice
from edgert.execute.engine import BufferSet, DeviceTensor
from edgert.execute.python_buffers import OnPart, PythonBufferSet
from edgert.execute.python_model import Asked
from edgert.frames.request import InferRequest
from edgert.frames.result import Array
from edgert.models.model_config import ModelConfig
from edgert.serve.datatypes import host_dtype
from edgert.stats import CopyCounts

Shape = tuple[int, ...]
Inputs = Mapping[str, Array]


class Part(msgspec.Struct, frozen=True, gc=False):
    """One request's inputs, and how many rows of the batch they are."""

    inputs: Inputs
    rows: int
    request: InferRequest | None = None  # None: of a warm-up, or of a slot without a request
    on_part: OnPart | None = None  # takes the responses of a decoupled model as they come


class RequestFiller(Protocol):
    """Fills one lane's inputs."""

    def fill(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Write the inputs of all parts, one behind the other; all have the same names and shapes."""

    def close(self) -> None:
        """Free what it holds. The lane is closed."""


class EngineShapes:
    """How the engine sees the tensors that a configuration describes to clients."""

    def __init__(self, config: ModelConfig) -> None:
        self._is_batched = bool(config.max_batch_size)
        self._reshaped = {tensor.name: tensor for tensor in config.inputs if tensor.reshape is not None}

    def of(self, parts: Sequence[Part]) -> dict[str, Shape]:
        """Return the engine's shape of every input of the whole batch."""
        rows = sum(part.rows for part in parts)
        return {name: self._whole(name, array.shape, rows) for name, array in parts[0].inputs.items()}

    def _whole(self, name: str, shape: Shape, rows: int) -> Shape:
        item = shape[1:] if self._is_batched else shape
        tensor = self._reshaped.get(name)
        if tensor is not None:
            item = reshaped(tensor.dims, tensor.engine_dims, item)
        return (rows, *item) if self._is_batched else item


class HostRequestFiller:
    """Writes into arrays, on the lane's thread."""

    def __init__(self, shapes: EngineShapes, copies: CopyCounts) -> None:
        self._shapes = shapes
        self._copies = copies

    def fill(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Copy every tensor once."""
        tensors = buffers.inputs(self._shapes.of(parts))
        for name, tensor in tensors.items():
            assert not isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of the host have arrays
            write(tensor, name, parts)
            self._copies.add("host_to_host", tensor.nbytes)

    def close(self) -> None:
        """Do nothing: the arrays are the lane's."""


class PythonRequestFiller:
    """Hands a model in Python the requests' own arrays."""

    def __init__(self, copies: CopyCounts) -> None:
        self._copies = copies

    def fill(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Copy only where the model wants one batch and several requests are in it."""
        assert isinstance(buffers, PythonBufferSet)  # noqa: S101 - a model in Python has these
        copied = buffers.take([Asked(part.inputs, part.request) for part in parts])
        buffers.on_part = parts[0].on_part
        if copied:
            self._copies.add("host_to_host", copied)

    def close(self) -> None:
        """Do nothing: the arrays are the requests' or the lane's."""


class DeviceRequestFiller:
    """Writes into pinned memory and enqueues its copy to the device; each buffer set has its own."""

    def __init__(self, shapes: EngineShapes, device: OpenDevice, owner: str) -> None:
        self._shapes = shapes
        self._device = device
        self._owner = owner
        self._staging: dict[tuple[int, str], Buffer] = {}

    def fill(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Stage every tensor. The memory is free again when the buffer set is."""
        shapes = self._shapes.of(parts)
        stream = buffers.stream
        assert stream is not None  # noqa: S101 - lanes of a device have one
        for name, tensor in buffers.inputs(shapes).items():
            assert isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of a device have these
            dtype = host_dtype(tensor.dtype)
            size_bytes = prod(shapes[name]) * dtype.itemsize
            staged = self._staged(buffers.index, name, size_bytes)
            write(staged.view_u8[:size_bytes].view(dtype).reshape(shapes[name]), name, parts)
            stream.copy(tensor.address, staged.address, size_bytes)
            self._device.copies.add("host_to_host", size_bytes)
            self._device.copies.add("host_to_device", size_bytes)

    def close(self) -> None:
        """Free the pinned memory."""
        with ExitStack() as undo:
            for buffer in self._staging.values():
                undo.callback(buffer.free)
            self._staging.clear()

    def _staged(self, index: int, name: str, size_bytes: int) -> Buffer:
        buffer = self._staging.get((index, name))
        if buffer is None or buffer.size_bytes < size_bytes:
            if buffer is not None:
                del self._staging[index, name]
                buffer.free()
            buffer = self._device.driver.allocate(size_bytes, MemoryKind.PINNED, self._owner)
            self._staging[index, name] = buffer
        return buffer


def reshaped(dims: Shape, other: Shape, shape: Shape) -> Shape:
    """Return what `shape`, one of `dims`, is as one of `other`; variable sides keep their order."""
    sides = iter([side for own, side in zip(dims, shape, strict=False) if own == -1])
    return tuple(next(sides, -1) if side == -1 else side for side in other)


def write(tensor: Array, name: str, parts: Iterable[Part]) -> None:
    """Write one input of all parts into the engine's tensor, which may have another shape for each row."""
    start = 0
    for part in parts:
        array = part.inputs[name]
        if array.size == tensor.size:
            np.copyto(tensor, array.reshape(tensor.shape), casting="equiv")
            return
        place = tensor[start : start + part.rows]
        np.copyto(place, array.reshape(place.shape), casting="equiv")
        start += part.rows
