"""The lanes of one served version: opened and warmed, fed by the scheduler, watched, closed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

import numpy as np

from edgert.errors import ModelError
from edgert.execute.engine import Completed, Engine, Lane, LaneOptions
from edgert.inference.feed import Feed
from edgert.inference.fill import Part, RequestFiller
from edgert.inference.limits import Limits
from edgert.inference.request_port import RequestPort
from edgert.inference.warmup import run_alone
from edgert.models.model_config import ModelConfig
from edgert.models.tensor_spec import TensorSpec
from edgert.pipeline.progress import Pulse
from edgert.pipeline.warm_up import WARM_UP_TIMEOUT_S, warm_up
from edgert.schedule.scheduler import Scheduler
from edgert.serve.datatypes import host_dtype


class ServedLanes:
    """Owns an engine, its lanes, and the scheduler's ports to them."""

    def __init__(self, engine: Engine, scheduler: Scheduler, title: str) -> None:
        """`title` is what the version is called in messages."""
        self._engine = engine
        self._scheduler = scheduler
        self._title = title
        self._lanes: list[Lane] = []
        self._fillers: dict[int, RequestFiller] = {}
        self._ports: list[RequestPort] = []
        self._limits: Limits | None = None
        self.look = scheduler.wake if engine.is_driven else scheduler.look_now

    def open(
        self, count: int, config: ModelConfig, options: LaneOptions, open_filler: Callable[[], RequestFiller]
    ) -> None:
        """Open lanes and run each once. Raises ModelError, OutOfDeviceMemoryError."""
        for _ in range(count):
            lane = self._engine.open_lane(config.max_batch_size or 1, self._lane_done, options)
            self._lanes.append(lane)
            filler = self._fillers[id(lane)] = open_filler()
            for rows in lane.batch_sizes() or (1,):
                if (part := self._zeros(config, rows)) is not None:
                    warm_up(lane, self._title, partial(filler.fill, [part]))
        self._engine.warmed()

    def run_once(self, part: Part, hidden: Collection[str]) -> Iterator[Completed]:
        """Let every lane run a batch that nobody sent; `hidden` inputs that it lacks are zeros.

        To be called before `begin`. Raises EdgertError.
        """
        info = self._engine.info
        lacking = [spec for spec in info.inputs if spec.name not in part.inputs]
        missing = [spec.name for spec in lacking if spec.name not in hidden]
        if missing and info.runtime != "python":  # that knows itself what it can do without
            raise ModelError(f"inputs: lacks {', '.join(missing)}")
        zeros = {
            spec.name: np.zeros(_least(spec, part.rows), host_dtype(spec.dtype))
            for spec in lacking
            if spec.name in hidden
        }
        whole = Part({**part.inputs, **zeros}, part.rows)
        for lane in self._lanes:
            yield run_alone(lane, partial(self._fillers[id(lane)].fill, [whole]), self._title)

    def begin(self, feed: Feed, limits: Limits | None = None) -> None:
        """Let the scheduler feed the lanes, within limits that they share with other models."""
        self._limits = limits
        has_queue_each = len(feed.queues) > 1
        for index, queue in enumerate(feed.queues):
            lanes = [self._lanes[index]] if has_queue_each else self._lanes
            views = limits.views(queue, lanes, first=index) if limits else [(queue, lanes)]
            for view, own in views:
                port = RequestPort(feed, index, view, own, self._fillers, is_driven=self._engine.is_driven)
                self._ports.append(port)
        for port in self._ports:
            self._scheduler.add(port)

    def pulses(self, hang_s: float, waiting: int) -> Iterator[Pulse]:
        """Yield the pulse of each lane, and of the `waiting` requests."""
        flights = [own for port in self._ports for own in port.flights.values()]
        limit_s = max(hang_s, WARM_UP_TIMEOUT_S)
        for number, own in enumerate(flights, 1):
            part = f"lane {number} of {self._title}"
            yield Pulse(part, own.ended, is_idle=own.begun == own.ended, limit_s=limit_s)
        begun = sum(own.begun for own in flights)
        yield Pulse(f"the queue of {self._title}", begun, is_idle=not waiting, limit_s=limit_s)

    def close(self) -> None:
        """Close lanes and engine. Nothing may be in flight."""
        for port in self._ports:
            self._scheduler.remove(port)
        if self._limits is not None:
            self._limits.close()
        for lane in self._lanes:
            lane.close()
            self._fillers[id(lane)].close()
        self._lanes.clear()
        self._engine.close()

    @property
    def lanes(self) -> Sequence[Lane]:
        """Lanes that are open."""
        return self._lanes

    def _lane_done(self) -> None:
        if not any(port.is_completing_here for port in self._ports):
            self.look()

    def _zeros(self, config: ModelConfig, rows: int) -> Part | None:
        """Return inputs to warm up with; None where shapes are open, and for a model's own code.

        That may have effects outside, and need not understand zeros.
        """
        info = self._engine.info
        is_batched = bool(config.max_batch_size)
        stated = {tensor.name: tensor.engine_dims for tensor in config.inputs}
        shapes = {spec.name: stated.get(spec.name, spec.shape[is_batched:]) for spec in info.inputs}
        if info.runtime == "python" or any(-1 in shape for shape in shapes.values()):
            return None
        axis = (rows,) * is_batched
        zeros = {
            spec.name: np.zeros(axis + shapes[spec.name], host_dtype(spec.dtype)) for spec in info.inputs
        }
        return Part(zeros, rows)


def _least(spec: TensorSpec, rows: int) -> tuple[int, ...]:
    """Return the smallest shape of a tensor for so many rows."""
    first = (rows if spec.shape[0] == -1 else spec.shape[0],) if spec.shape else ()
    return (*first, *(max(side, 1) for side in spec.shape[1:]))
