"""Which outputs of a batch stay on the device, and where: those that all who take them read there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import prod

import msgspec

from edgert.device.handed import HandedPool, HandedTensor, Loan
from edgert.execute.bindings import Copy, Fetched
from edgert.execute.device_buffers import DeviceBufferSet
from edgert.execute.engine import BufferSet, DeviceTensor
from edgert.inference.fill import Part, Shape, reshaped
from edgert.models.model_config import ModelConfig
from edgert.serve.datatypes import host_dtype


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """A whole batch's output in memory of its own."""

    loan: Loan
    row_bytes: int
    shape: Shape  # of the batch, as clients see it
    dtype: str
    copy: Copy


class OutputKeeper:
    """Keeps outputs of the lanes of one version in memory that does not belong to their buffer sets.

    A lane's memory is not held until the next step has read it: two models that wait for each other's
    memory would wait for ever. A whole batch's output is copied at once, and its requests share the copy.
    """

    def __init__(self, config: ModelConfig, pool: HandedPool) -> None:
        self._pool = pool
        self._is_batched = bool(config.max_batch_size)
        self._outputs = {tensor.name: tensor for tensor in config.outputs}

    def keep(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        """Say which outputs of the batch stay, and which are fetched. To be called once inputs are bound."""
        for part in parts:
            if part.request is not None and part.request.kept is not None:
                self._keep(parts, buffers)
                return

    def _keep(self, parts: Sequence[Part], buffers: BufferSet) -> None:
        asked = sorted({name for part in parts for name in self._asked(part)})
        assert isinstance(buffers, DeviceBufferSet)  # noqa: S101 - lanes of a device have these
        rows = sum(part.rows for part in parts)
        left = buffers.left()
        kept: dict[str, _Kept] = {}
        try:
            for name in asked:
                if name in left and (one := self._room(name, left[name], rows)) is not None:
                    kept[name] = one
                    self._share(name, one, parts)
            if kept:
                buffers.leave([one.copy for one in kept.values()], self._fetched(parts, left.keys()))
        finally:
            for one in kept.values():
                self._pool.let_go(one.loan)  # now the requests hold it

    def _asked(self, part: Part) -> list[str]:
        """Return the outputs that a request lets stay here."""
        kept = part.request.kept if part.request is not None else None
        return [name for name, pool in kept.places.items() if pool is self._pool] if kept else []

    def _room(self, name: str, tensor: DeviceTensor, rows: int) -> _Kept | None:
        """Return memory for an output; None where it has to go through the host, as for want of room."""
        shape = self._shown(name, tensor.shape)
        if shape is None or (self._is_batched and shape[0] < rows):
            return None
        if self._is_batched:
            shape = (rows, *shape[1:])
        size_bytes = prod(shape) * host_dtype(tensor.dtype).itemsize
        loan = self._pool.take(size_bytes) if size_bytes else None
        if loan is None:
            return None
        copy = (loan.buffer.address, tensor.address, size_bytes)
        return _Kept(loan, size_bytes // rows, shape, tensor.dtype, copy)

    def _shown(self, name: str, shape: Shape) -> Shape | None:
        """Return an output's shape as config.pbtxt shows it; None where it cannot be shown so."""
        if self._is_batched and not shape:
            return None
        tensor = self._outputs[name]
        if tensor.reshape is None:
            return shape
        axis = shape[:1] if self._is_batched else ()
        shown = (*axis, *reshaped(tensor.engine_dims, tensor.dims, shape[len(axis) :]))
        return shown if prod(shown) == prod(shape) and min(shown, default=0) >= 0 else None

    def _share(self, name: str, one: _Kept, parts: Sequence[Part]) -> None:
        """Give each request that lets the output stay its rows of it."""
        start = 0
        for part in parts:
            if part.request is not None and part.request.kept is not None and name in self._asked(part):
                shape = (part.rows, *one.shape[1:]) if self._is_batched else one.shape
                part.request.kept.tensors[name] = HandedTensor(
                    one.loan, start * one.row_bytes, shape, host_dtype(one.dtype)
                )
            start += part.rows

    def _fetched(self, parts: Sequence[Part], names: Collection[str]) -> Fetched:
        """Return the outputs that somebody wants on the host; None: all."""
        fetched: set[str] = set()
        for part in parts:
            request = part.request
            if request is None:
                return None
            if not part.is_empty:
                kept, wanted = request.kept, request.outputs or tuple(self._outputs)
                fetched.update(part.states)
                fetched.update(name for name in wanted if kept is None or kept.is_shown(name))
        return None if fetched.issuperset(names) else frozenset(fetched)
