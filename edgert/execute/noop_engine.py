"""An engine that computes nothing, for measuring edgert itself. Its outputs are always zero.

It runs only where a model's edgert.toml names it: `runtime = "noop"`. It needs no engine file; its
tensors are those of config.pbtxt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edgert.execute.engine import DEFAULT_LANE, EngineDetails, EngineInfo, Lane, LaneOptions
from edgert.execute.host_lane import HostLane
from edgert.frames.result import Array
from edgert.models.tensor_spec import TensorSpec

_SETS_PER_LANE = 2


class NoopEngine:
    """An Engine without weights."""

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        batches = all(spec.shape and spec.shape[0] == -1 for spec in (*inputs, *outputs))
        self.info = EngineInfo("noop", inputs, outputs, batches)

    def open_lane(
        self, max_batch: int, on_done: Callable[[], None], options: LaneOptions = DEFAULT_LANE
    ) -> Lane:
        """Return a lane with a worker as every host lane has, so that its hand-over is measured too."""
        sets = [NoopBufferSet(index, self.info, max(max_batch, 1)) for index in range(_SETS_PER_LANE)]
        return HostLane(sets, on_done, "lane:noop")

    @property
    def is_driven(self) -> bool:
        """False: its lanes have workers."""
        return False

    def warmed(self) -> None:
        """Do nothing: nothing was compiled."""

    def details(self) -> EngineDetails:
        """Return nothing: there is no file."""
        return EngineDetails()

    def close(self) -> None:
        """Do nothing."""


class NoopBufferSet:
    """Zeroed arrays for `max_batch` items; variable sides count as 1."""

    stream = None  # filled on the lane\'s own thread

    def __init__(self, index: int, info: EngineInfo, max_batch: int) -> None:
        self.index = index
        self._inputs = {spec.name: _zeros(spec, max_batch) for spec in info.inputs}
        self._outputs = {spec.name: _zeros(spec, max_batch) for spec in info.outputs}
        self._batches = info.batches
        self._rows = max_batch

    def inputs(self, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Array]:
        """Return as many places of the inputs as the shapes ask for."""
        self._rows = next(iter(shapes.values()))[0]
        return {name: self._inputs[name][: shape[0]] for name, shape in shapes.items()}

    def outputs(self) -> Mapping[str, Array]:
        """Return zeros, as many places as the inputs had."""
        if not self._batches:
            return self._outputs
        return {name: array[: self._rows] for name, array in self._outputs.items()}

    def run(self) -> None:
        """Do nothing: the outputs are zero already."""

    def close(self) -> None:
        """Do nothing: the arrays free themselves."""


def _zeros(spec: TensorSpec, max_batch: int) -> Array:
    shape = spec.with_batch(max_batch) if spec.shape and spec.shape[0] == -1 else spec.shape
    return np.zeros([max(side, 1) for side in shape], spec.dtype)
