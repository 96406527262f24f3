"""A version whose requests wait in one queue for its lanes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from edgert.errors import ClosedError, RequestError, UnavailableError
from edgert.execute.engine import Engine, Lane, LaneOptions
from edgert.frames.request import InferRequest, InferResponse
from edgert.inference.answers import Answers
from edgert.inference.counts import Counts
from edgert.inference.feed import Feed
from edgert.inference.fill import Part, RequestFiller
from edgert.inference.request_port import RequestPort
from edgert.inference.signature import Signature
from edgert.models.model_config import ModelConfig
from edgert.pipeline.progress import Pulse
from edgert.pipeline.warm_up import WARM_UP_TIMEOUT_S, warm_up
from edgert.schedule.queued import Queued
from edgert.schedule.scheduler import Scheduler
from edgert.serve.core import ModelStatistics
from edgert.stats import LiveCount

OpenFiller = Callable[[], RequestFiller]


class ServedModel:
    """A ServedVersion on an engine. It owns engine, lanes and queue."""

    live: ClassVar[LiveCount] = LiveCount("served model")

    def __init__(
        self,
        name: str,
        version: int,
        config: ModelConfig,
        engine: Engine,
        scheduler: Scheduler,
        open_feed: Callable[[Answers], Feed],
        hidden: Collection[str] = (),
    ) -> None:
        """`hidden` are inputs that no client sends."""
        self.name = name
        self.version = version
        self.config = config
        self._engine = engine
        self._scheduler = scheduler
        self._look = scheduler.wake if engine.is_driven else scheduler.look_now
        self._signature = Signature(name, config, hidden)
        self.counts = Counts(name, version)
        self._answers = Answers(name, version, config, self._signature, self.counts, self._ended)
        self._feed = open_feed(self._answers)
        self._lanes: list[Lane] = []
        self._fillers: dict[int, RequestFiller] = {}
        self._ports: list[RequestPort] = []
        self._is_refusing = False
        self._open = 0  # requests without a final response
        self._lock = threading.Lock()
        self.live.opened()

    def open_lanes(self, count: int, options: LaneOptions, open_filler: OpenFiller) -> None:
        """Open lanes and run each once. Raises ModelError, OutOfDeviceMemoryError."""
        for _ in range(count):
            lane = self._engine.open_lane(self.config.max_batch_size or 1, self._lane_done, options)
            self._lanes.append(lane)
            filler = self._fillers[id(lane)] = open_filler()
            for rows in lane.batch_sizes() or (1,):
                if (part := self._zeros(rows)) is not None:
                    warm_up(lane, self.name, partial(filler.fill, [part]))
        self._engine.warmed()

    def begin(self) -> None:
        """Let the scheduler feed the lanes."""
        lanes = [[lane] for lane in self._lanes] if len(self._feed.queues) > 1 else [self._lanes]
        self._ports = [
            RequestPort(self._feed, index, own, self._fillers, is_driven=self._engine.is_driven)
            for index, own in enumerate(lanes)
        ]
        for port in self._ports:
            self._scheduler.add(port)

    def infer(self, request: InferRequest) -> None:
        """Let a request wait for a lane. Raises RequestError, ClosedError."""
        now_ns = time.monotonic_ns()
        arrived_ns = request.arrived_mono_ns or now_ns
        try:
            fit = self._signature.check(request)
        except RequestError as error:
            self.counts.failed(arrived_ns, error)
            raise
        self._enqueue(
            Queued(request, fit.rows, fit.key, request.priority, request.timeout_us * 1000, arrived_ns),
            now_ns,
        )
        if self._feed.is_awaited:
            self._look()

    def statistics(self) -> ModelStatistics:
        """Return counts."""
        return self.counts.snapshot(pending=self._feed.waiting, sequences=self._feed.sequences)

    def pulses(self, hang_s: float) -> Iterator[Pulse]:
        """Yield the pulse of each lane, and of the requests that wait for one."""
        title = f"served model {self.name} version {self.version}"
        flights = [own for port in self._ports for own in port.flights.values()]
        limit_s = max(hang_s, WARM_UP_TIMEOUT_S)
        for number, own in enumerate(flights, 1):
            part = f"lane {number} of {title}"
            yield Pulse(part, own.ended, is_idle=own.begun == own.ended, limit_s=limit_s)
        begun = sum(own.begun for own in flights)
        yield Pulse(f"the queue of {title}", begun, is_idle=not self._feed.waiting, limit_s=limit_s)

    @property
    def is_idle(self) -> bool:
        """Every request has had its final response."""
        return not self._open

    def refuse(self) -> None:
        """Take no more requests; those that wait go at once."""
        self._is_refusing = True
        self._feed.close()
        self._scheduler.wake()

    def give_up(self) -> None:
        """Answer those that wait with an error."""
        self._feed.drop_all(UnavailableError(f"Model '{self.name}' was unloaded."))

    def close(self) -> None:
        """Close lanes and engine."""
        for port in self._ports:
            self._scheduler.remove(port)
        for lane in self._lanes:
            lane.close()
            self._fillers[id(lane)].close()
        self._lanes.clear()
        self._engine.close()
        self.live.closed()

    @property
    def lanes(self) -> Sequence[Lane]:
        """Lanes that are open."""
        return self._lanes

    def _enqueue(self, queued: Queued, now_ns: int) -> None:
        with self._lock:
            self._open += 1
        try:
            self._feed.offer(queued, now_ns)
        except RequestError as error:
            with self._lock:
                self._open -= 1
            if self._is_refusing:
                raise ClosedError(f"Model '{self.name}' takes no more requests.") from error
            self.counts.failed(queued.arrived_ns, error)
            raise

    def _ended(self, queued: Queued, response: InferResponse) -> None:
        with self._lock:
            self._open -= 1

    def _lane_done(self) -> None:
        if not any(port.is_completing_here for port in self._ports):
            self._look()

    def _zeros(self, rows: int) -> Part | None:
        """Return inputs to warm up with; None where the configuration leaves their shapes open."""
        tensors = self.config.inputs
        if any(-1 in tensor.dims or tensor.dtype == "object" for tensor in tensors):
            return None
        axis = (rows,) if self.config.max_batch_size else ()
        return Part(
            {tensor.name: np.zeros(axis + tensor.dims, _host_dtype(tensor.dtype)) for tensor in tensors}, rows
        )


def _host_dtype(dtype: str) -> str:
    return "uint16" if dtype == "bfloat16" else dtype
