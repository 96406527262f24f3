"""An engine that computes nothing, for measuring edgert itself. Its outputs are always zero.

It runs only where a model's edgert.toml names it: `runtime = "noop"`. It needs no engine file; its
tensors are those of config.pbtxt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from edgert.errors import BusyError, ClosedError
from edgert.execute.engine import BufferSet, Completed, EngineInfo, Fill
from edgert.execute.host_lane import run_batch
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec

_SETS_PER_LANE = 2


class NoopEngine:
    """An Engine without weights."""

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        batches = all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
        self.info = EngineInfo("noop", inputs, outputs, batches)

    def open_lane(self, max_batch: int, on_done: Callable[[], None]) -> NoopLane:
        """Return a lane that completes within `submit`."""
        return NoopLane(self.info, max(max_batch, 1), on_done)

    def close(self) -> None:
        """Do nothing."""


class NoopBufferSet:
    """Zeroed arrays for `max_batch` items; variable sides count as 1."""

    def __init__(self, index: int, info: EngineInfo, max_batch: int) -> None:
        self.index = index
        self._inputs = {spec.name: _zeros(spec, max_batch) for spec in info.inputs}
        self._outputs = {spec.name: _zeros(spec, max_batch) for spec in info.outputs}

    def inputs(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Array]:
        """Return all places of the inputs, whatever the shapes."""
        return self._inputs

    def outputs(self) -> Mapping[str, Array]:
        """Return zeros."""
        return self._outputs

    def run(self) -> None:
        """Do nothing: the outputs are zero already."""

    def close(self) -> None:
        """Do nothing: the arrays free themselves."""


class NoopLane:
    """A Lane that runs `fill` on the submitter's thread."""

    def __init__(self, info: EngineInfo, max_batch: int, on_done: Callable[[], None]) -> None:
        self._sets = [NoopBufferSet(index, info, max_batch) for index in range(_SETS_PER_LANE)]
        self._free = deque(self._sets)
        self._is_closed = False
        self._done: deque[Completed] = deque()
        self._on_done = on_done

    def acquire(self) -> BufferSet | None:
        """Return a free buffer set, if there is one."""
        return self._free.popleft() if self._free and not self._is_closed else None

    def submit(self, buffers: BufferSet, fill: Fill, tag: object) -> None:
        """Fill, and be done. Raises BusyError, ClosedError."""
        if self._is_closed:
            raise ClosedError("The lane was closed.")
        self._done.append(run_batch(self._acquired(buffers), fill, tag))
        self._on_done()

    def poll(self) -> list[Completed]:
        """Return what completed since the last call."""
        done = list(self._done)
        self._done.clear()
        return done

    def release(self, buffers: BufferSet) -> None:
        """Make the buffer set free again. Raises BusyError."""
        self._free.append(self._acquired(buffers))
        self._on_done()

    def close(self) -> None:
        """Take no more batches."""
        self._is_closed = True

    def _acquired(self, buffers: BufferSet) -> NoopBufferSet:
        own = next((own for own in self._sets if own is buffers), None)
        if own is None or own in self._free:
            raise BusyError(f"Buffer set {buffers.index} was not acquired from this lane.")
        return own


def _zeros(spec: TensorSpec, max_batch: int) -> Array:
    shape = spec.with_batch(max_batch) if spec.shape and spec.shape[0] == -1 else spec.shape
    return np.zeros([max(side, 1) for side in shape], spec.dtype)
