"""Inputs and outputs of a model in Python: memory that is kept by shape, or the requests' own arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import msgspec
import numpy as np

from edgert.device.memory import Buffer
from edgert.errors import EdgertError, ModelError
from edgert.execute.engine import EngineInfo
from edgert.execute.python_model import Asked, Inputs, Instance, Outputs
from edgert.execute.python_outputs import host_dtype
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec

_KEPT_SHAPES = 16

Allocate = Callable[[int], Buffer]
OnPart = Callable[[Mapping[str, Array]], None]
Shapes = Mapping[str, tuple[int, ...]]


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """Arrays over the same memory, for whoever fills them and for the model."""

    writable: dict[str, Array]
    readable: dict[str, Array]


class PythonBufferSet:
    """One batch of a model in Python. Whoever fills it calls `inputs` and writes, or `take`.

    A decoupled model's outputs go to `on_part` as they come, on the lane's thread; a batch has one request
    then. It has to be set for each batch.
    """

    stream = None  # filled on the lane's own thread

    def __init__(
        self,
        index: int,
        instance: Instance,
        info: EngineInfo,
        max_batch: int,
        allocate: Allocate,
        *,
        is_decoupled: bool,
    ) -> None:
        self.index = index
        self.on_part: OnPart | None = None
        self.answers: list[Outputs | EdgertError] | None = None  # of what was taken; None: `outputs` has them
        self._instance = instance
        self._specs = {spec.name: spec for spec in info.inputs}
        self._batches = info.batches
        self._max_batch = max_batch
        self._allocate = allocate
        self._is_decoupled = is_decoupled
        self._buffers: dict[str, Buffer] = {}
        self._kept: dict[tuple[tuple[str, tuple[int, ...]], ...], _Kept] = {}
        self._asked: Sequence[Asked] = ()
        self._outputs: Outputs | None = None

    def inputs(self, shapes: Shapes) -> Mapping[str, Array]:
        """Return the arrays to fill for these shapes; the same memory every time, but for text."""
        key = tuple(shapes.items())
        kept = self._kept.get(key) or self._keep(key)
        self._asked = (Asked(kept.readable),)
        return kept.writable

    def take(self, asked: Sequence[Asked]) -> int:
        """Take the requests of a batch, their arrays as clients see them; return the bytes that were copied.

        The arrays are read until the batch is done. They are copied only where a model that knows nothing
        but batches gets several requests.
        """
        seen = [self._seen(one) for one in asked]
        if len(seen) == 1 or self._instance.takes_requests:
            self._asked = seen
            return 0
        return self._join([one.inputs for one in seen])

    def run(self) -> None:
        """Call the model."""
        asked, on_part = self._asked, self.on_part
        self._asked, self.on_part = (), None
        self._outputs = self.answers = None
        if not asked:
            raise ModelError("The batch has no inputs: neither `inputs` nor `take` was called.")
        if self._is_decoupled:
            self._run_decoupled(asked[0], on_part)
        elif asked[0].request is not None and self._instance.takes_requests:
            self.answers = self._instance.answer_each(asked)
        else:
            self._outputs = self._instance.answer(asked[0].inputs, self._rows(asked[0].inputs))

    def outputs(self) -> Mapping[str, Array]:
        """Return the model's own arrays; none of a decoupled model, or where `answers` has them."""
        if self._outputs is None and self.answers is None:
            raise ModelError("The batch has no outputs: it did not run.")
        return self._outputs or {}

    def close(self) -> None:
        """Free the buffers; arrays handed out must not be used any more."""
        self._asked, self._outputs, self.answers = (), None, None
        self._kept.clear()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()

    def _run_decoupled(self, asked: Asked, on_part: OnPart | None) -> None:
        parts = self._instance.parts(asked)
        try:
            for part in parts:
                if on_part is not None:
                    on_part(part)
        finally:
            parts.close()
        self._outputs = {}

    def _seen(self, asked: Asked) -> Asked:
        """Return a request with its arrays in the shapes of the model, not to be written to."""
        inputs = {name: _read_only(self._shaped(name, array)) for name, array in asked.inputs.items()}
        return Asked(inputs, asked.request)

    def _shaped(self, name: str, array: Array) -> Array:
        shape = self._spec(name).shape
        whole = (*array.shape[:1], *shape[1:]) if self._batches else shape
        return array if -1 in whole or array.shape == whole else array.reshape(whole)

    def _join(self, parts: Sequence[Inputs]) -> int:
        """Write requests one behind the other."""
        rows = sum(next(iter(part.values())).shape[0] for part in parts)
        arrays = self.inputs({name: (rows, *array.shape[1:]) for name, array in parts[0].items()})
        for name, array in arrays.items():
            np.concatenate([part[name] for part in parts], out=array)
        return sum(array.nbytes for array in arrays.values())

    def _rows(self, inputs: Inputs) -> int | None:
        first = next(iter(inputs.values()), None)
        return first.shape[0] if self._batches and first is not None else None

    def _keep(self, key: tuple[tuple[str, tuple[int, ...]], ...]) -> _Kept:
        if len(self._kept) >= _KEPT_SHAPES:
            self._kept.pop(next(iter(self._kept)))
        writable = {name: self._array(self._spec(name), shape) for name, shape in key}
        kept = _Kept(writable, {name: _read_only(array) for name, array in writable.items()})
        self._kept[key] = kept
        return kept

    def _spec(self, name: str) -> TensorSpec:
        spec = self._specs.get(name)
        if spec is None:
            raise ModelError(f"The batch has an input {name!r}, the model has {sorted(self._specs)}.")
        return spec

    def _array(self, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
        """Return an array over this tensor's buffer, which holds the largest shape seen so far."""
        dtype = host_dtype(spec.dtype)
        if dtype.hasobject:
            return np.empty(shape, object)
        needed = prod(shape) * dtype.itemsize
        buffer = self._buffers.get(spec.name)
        if buffer is None or buffer.size_bytes < needed:
            rows = shape[0] if self._batches and shape else 0
            whole = needed // rows * self._max_batch if rows else needed
            buffer = self._replace(spec.name, max(whole, needed, 1))
        array: Array = buffer.view_u8[:needed].view(dtype).reshape(shape)
        return array

    def _replace(self, name: str, size_bytes: int) -> Buffer:
        """Grow a tensor's buffer; arrays over the old one are forgotten first."""
        self._kept.clear()
        if name in self._buffers:
            self._buffers.pop(name).free()
        buffer = self._buffers[name] = self._allocate(size_bytes)
        return buffer


def _read_only(array: Array) -> Array:
    """Return a view that the model cannot write: what it was given is not always a copy."""
    view: Array = array.view()
    view.flags.writeable = False
    return view
