"""From a batch's requests to a lane's inputs: one copy of each tensor, two where a device stages them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from math import prod
from typing import Any, Protocol

import msgspec
import numpy as np

from edgert.device.handed import HandedTensor, on_host
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
_Copy = tuple[str, int, int, int]  # kind, place in the input, source, bytes


class Part(msgspec.Struct, frozen=True, gc=False):
    """One request's inputs, and how many rows of the batch they are."""

    inputs: Inputs
    rows: int
    request: InferRequest | None = None  # None: of a warm-up, or of a slot without a request
    on_part: OnPart | None = None  # takes the responses of a decoupled model as they come
    states: tuple[str, ...] = ()  # outputs that are wanted on the host, whatever the request wants
    is_empty: bool = False  # of a slot without a request: nobody wants its outputs


class RequestFiller(Protocol):
    """Fills one lane's inputs."""

    def fill(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Write the inputs of all parts, one behind the other; all have the same names and shapes."""

    def close(self) -> None:
        """Free what it holds. The lane is closed."""


class Keeper(Protocol):
    """Lets outputs of a batch stay on the device."""

    def keep(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Say which of them, once the inputs are bound."""


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
        copied = buffers.take([Asked(on_host(part.inputs), part.request) for part in parts])
        buffers.on_part = parts[0].on_part
        if copied:
            self._copies.add("host_to_host", copied)

    def close(self) -> None:
        """Do nothing: the arrays are the requests' or the lane's."""


class _Wanted(msgspec.Struct, frozen=True, gc=False):
    """One input of a batch, as the engine wants it."""

    name: str
    shape: Shape
    dtype: np.dtype[np.generic]
    size_bytes: int


class DeviceRequestFiller:
    """Writes into pinned memory and enqueues its copy to the device; each buffer set has its own.

    What an ensemble's step before has left on the device is copied there.
    """

    def __init__(
        self, shapes: EngineShapes, device: OpenDevice, owner: str, keeper: Keeper | None = None
    ) -> None:
        self._shapes = shapes
        self._device = device
        self._owner = owner
        self._keeper = keeper
        self._staging: dict[tuple[int, str], Buffer] = {}

    def fill(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Copy every tensor. The memory is free again when the buffer set is."""
        shapes = self._shapes.of(parts)
        stream = buffers.stream
        assert stream is not None  # noqa: S101 - lanes of a device have one
        for name, tensor in buffers.inputs(shapes).items():
            assert isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of a device have these
            dtype = host_dtype(tensor.dtype)
            wanted = _Wanted(name, shapes[name], dtype, prod(shapes[name]) * dtype.itemsize)
            copies = self._copies(wanted, parts, buffers.index)
            for kind, start, source, size_bytes in copies:
                stream.copy(tensor.address + start, source, size_bytes)
                self._device.copies.add(kind, size_bytes)
        if self._keeper is not None:
            self._keeper.keep(parts, buffers)

    def close(self) -> None:
        """Free the pinned memory."""
        with ExitStack() as undo:
            for buffer in self._staging.values():
                undo.callback(buffer.free)
            self._staging.clear()

    def _copies(self, wanted: _Wanted, parts: Sequence[Part], index: int) -> Iterable[_Copy]:
        """Return the copies that fill one input. Stages what is an array."""
        for part in parts:
            if isinstance(part.inputs[wanted.name], HandedTensor):
                return self._mixed_copies(wanted, parts, index)
        staged = self._staged(index, wanted.name, wanted.size_bytes)
        return (self._stage(staged, 0, wanted, wanted.shape, parts),)

    def _mixed_copies(self, wanted: _Wanted, parts: Sequence[Part], index: int) -> Iterator[_Copy]:
        rows = sum(part.rows for part in parts)
        row_bytes, start = wanted.size_bytes // rows, 0
        for is_here, run in groupby(parts, partial(self._is_here, wanted, row_bytes)):
            own = list(run)
            own_rows = sum(part.rows for part in own)
            if is_here:
                yield from _joined(own, wanted.name, start)
            else:
                shape = wanted.shape if own_rows == rows else (own_rows, *wanted.shape[1:])
                staged = self._staged(index, wanted.name, wanted.size_bytes)
                yield self._stage(staged, start, wanted, shape, own)
            start += row_bytes * own_rows

    def _is_here(self, wanted: _Wanted, row_bytes: int, part: Part) -> bool:
        """Say whether a part is on this device, as it is wanted."""
        tensor = part.inputs[wanted.name]
        return (
            isinstance(tensor, HandedTensor)
            and tensor.pool.device is self._device
            and (tensor.dtype, tensor.nbytes) == (wanted.dtype, row_bytes * part.rows)
        )

    def _stage(
        self, staged: Buffer, start: int, wanted: _Wanted, shape: Shape, parts: Sequence[Part]
    ) -> _Copy:
        """Write parts of one input, of this shape together, into pinned memory."""
        size_bytes = prod(shape) * wanted.dtype.itemsize
        write(
            staged.view_u8[start : start + size_bytes].view(wanted.dtype).reshape(shape), wanted.name, parts
        )
        self._device.copies.add("host_to_host", size_bytes)
        return "host_to_device", start, staged.address + start, size_bytes

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


def _joined(parts: Iterable[Part], name: str, start: int) -> Iterator[_Copy]:
    """Yield the copies of an input that is on the device; neighbours in one loan are one."""
    source = size_bytes = 0
    last: HandedTensor | None = None
    for part in parts:
        tensor: Any = part.inputs[name]
        if last is not None and not last.is_before(tensor):
            yield "device_to_device", start, source, size_bytes
            start, size_bytes = start + size_bytes, 0
        source = source if size_bytes else tensor.address
        size_bytes += tensor.nbytes
        last = tensor
    yield "device_to_device", start, source, size_bytes


def write(tensor: Array, name: str, parts: Iterable[Part]) -> None:
    """Write one input of all parts into the engine's tensor, which may have another shape for each row."""
    start = 0
    for part in parts:
        array = part.inputs[name]
        if isinstance(array, HandedTensor):  # of another device, or for a lane of the host
            array = array.to_array()
        if array.size == tensor.size:
            np.copyto(tensor, array.reshape(tensor.shape), casting="equiv")
            return
        place = tensor[start : start + part.rows]
        np.copyto(place, array.reshape(place.shape), casting="equiv")
        start += part.rows
