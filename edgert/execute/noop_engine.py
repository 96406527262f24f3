"""An engine that computes nothing, for measuring edgert itself. Its outputs are always zero.

It runs only where a model's edgert.toml names it: `runtime = "noop"`. It needs no engine file; its
tensors are those of config.pbtxt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

import numpy as np

from edgert.errors import EdgertError
from edgert.execute.engine import BufferSet, Completed, EngineInfo, Fill
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


class NoopLane:
    """A Lane that runs `fill` on the submitter's thread."""

    def __init__(self, info: EngineInfo, max_batch: int, on_done: Callable[[], None]) -> None:
        self._free = deque(NoopBufferSet(index, info, max_batch) for index in range(_SETS_PER_LANE))
        self._done: deque[Completed] = deque()
        self._on_done = on_done

    def acquire(self) -> BufferSet | None:
        """Return a free buffer set, if there is one."""
        return self._free.popleft() if self._free else None

    def submit(self, buffers: BufferSet, fill: Fill, tag: object) -> None:
        """Fill, and be done."""
        started = time.monotonic_ns()
        error: EdgertError | None = None
        try:
            fill(buffers)
        except EdgertError as failure:
            error = failure
        finished = time.monotonic_ns()
        self._done.append(Completed(buffers, tag, error, started, finished, finished))
        self._on_done()

    def poll(self) -> list[Completed]:
        """Return what completed since the last call."""
        done = list(self._done)
        self._done.clear()
        return done

    def release(self, buffers: BufferSet) -> None:
        """Make the buffer set free again."""
        assert isinstance(buffers, NoopBufferSet)  # noqa: S101 - our own invariant
        self._free.append(buffers)

    def close(self) -> None:
        """Do nothing."""


def _zeros(spec: TensorSpec, max_batch: int) -> Array:
    shape = spec.with_batch(max_batch) if spec.shape and spec.shape[0] == -1 else spec.shape
    return np.zeros([max(side, 1) for side in shape], spec.dtype)
