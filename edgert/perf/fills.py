"""Writes measured batches into a lane's inputs: arrays on the host, copies from pinned memory on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle

import msgspec
import numpy as np

from edgert.device.memory import Buffer, MemoryKind
from edgert.device.opened import OpenDevice
from edgert.execute.engine import BufferSet, DeviceTensor, Fill
from edgert.frames.result import Array

Batch = Mapping[str, Array]  # by input, with the batch axis

OWNER = "perf"


class Fills:
    """The batches of a measurement, in turn. Close it after the lanes: they read its memory."""

    def __init__(self, fills: Sequence[Fill], close: Callable[[], None]) -> None:
        self._fills = cycle(fills)
        self.close = close

    def next(self) -> Fill:
        """Return the next batch's fill. The driving thread only."""
        return next(self._fills)


def open_fills(batches: Sequence[Batch], device: OpenDevice, *, is_driven: bool) -> Fills:
    """Return the fills for lanes of an engine.

    Raises:
        OutOfDeviceMemoryError: the batches do not fit into pinned memory.
    """
    if not is_driven:
        return Fills([partial(_write, batch) for batch in batches], lambda: None)
    with ExitStack() as undo:
        fills = [partial(_copy, _pin(batch, device, undo), device) for batch in batches]
        return Fills(fills, undo.pop_all().close)


class _Pinned(msgspec.Struct, frozen=True):
    shape: tuple[int, ...]
    buffer: Buffer


def _write(batch: Batch, buffers: BufferSet) -> None:
    tensors = buffers.inputs({name: array.shape for name, array in batch.items()})
    for name, array in batch.items():
        tensor = tensors[name]
        assert not isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of the host have arrays
        np.copyto(tensor, array, casting="no")


def _pin(batch: Batch, device: OpenDevice, undo: ExitStack) -> dict[str, _Pinned]:
    pinned = {}
    for name, array in batch.items():
        buffer = device.driver.allocate(array.nbytes, MemoryKind.PINNED, OWNER)
        undo.callback(buffer.free)
        buffer.view_u8[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        pinned[name] = _Pinned(array.shape, buffer)
    return pinned


def _copy(batch: Mapping[str, _Pinned], device: OpenDevice, buffers: BufferSet) -> None:
    stream = buffers.stream
    assert stream is not None  # noqa: S101 - lanes of a device have one
    tensors = buffers.inputs({name: pinned.shape for name, pinned in batch.items()})
    for name, pinned in batch.items():
        tensor = tensors[name]
        assert isinstance(tensor, DeviceTensor)  # noqa: S101 - lanes of a device have these
        stream.copy(tensor.address, pinned.buffer.address, pinned.buffer.size_bytes)
        device.copies.add("host_to_device", pinned.buffer.size_bytes)
