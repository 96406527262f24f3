"""A version whose requests wait for the lanes of an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import ClassVar

from edgert.device.handed import HandedPool
from edgert.errors import ClosedError, DeviceLostError, RequestError, UnavailableError
from edgert.frames.request import InferRequest, InferResponse
from edgert.inference.answers import Answers
from edgert.inference.counts import Counts
from edgert.inference.feed import Feed
from edgert.inference.fill import Part
from edgert.inference.served_lanes import ServedLanes
from edgert.inference.signature import Signature
from edgert.models.model_config import ModelConfig
from edgert.pipeline.progress import Pulse
from edgert.schedule.ordering import OrderedResponder, Ordering
from edgert.schedule.queued import Queued
from edgert.serve.core import ModelStatistics
from edgert.serve.options import Metric
from edgert.stats import LiveCount


class ServedModel:
    """A ServedVersion. It owns its lanes."""

    live: ClassVar[LiveCount] = LiveCount("served model")

    def __init__(
        self,
        name: str,
        version: int,
        config: ModelConfig,
        lanes: ServedLanes,
        open_feed: Callable[[Answers], Feed],
        hidden: Collection[str] = (),
        metrics: Collection[Metric] = (),
        on_lost: Callable[[DeviceLostError], None] = lambda _: None,
        pool: HandedPool | None = None,
    ) -> None:
        """`hidden` are inputs that no client sends; `metrics` is what is kept beside counts.

        `on_lost` hears that nothing goes on. `pool` is that of the device of all lanes, if there is one.
        """
        self.name = name
        self.version = version
        self.config = config
        self.counts = Counts(name, version, metrics)
        self._lanes = lanes
        self._pool = pool
        self._hidden = hidden
        self._signature = Signature(name, config, hidden)
        self._answers = Answers(name, version, config, self._signature, self.counts, self._ended, on_lost)
        self.feed = open_feed(self._answers)
        batchings = (config.dynamic_batching, config.sequence_batching)
        is_ordered = any(batching is not None and batching.preserve_ordering for batching in batchings)
        self._ordering = Ordering() if is_ordered else None
        self._is_refusing = False
        self._open = 0  # requests without a final response
        self._lock = threading.Lock()
        self.live.opened()

    def infer(self, request: InferRequest) -> None:
        """Let a request wait for a lane. Raises RequestError, ClosedError."""
        now_ns = time.monotonic_ns()
        arrived_ns = request.arrived_mono_ns or now_ns
        try:
            fit = self._signature.check(request)
        except RequestError as error:
            self.counts.failed(arrived_ns, error)
            raise
        timeout_ns = request.timeout_us * 1000
        queued = Queued(request, fit.rows, fit.key, request.priority, timeout_ns, arrived_ns)
        if self._ordering is None:
            self._enqueue(queued, now_ns)
        else:
            self._enqueue_in_order(queued, now_ns, self._ordering.enter(request.responder))
        if self.feed.is_awaited:
            self._lanes.look()

    def warm(self, part: Part) -> None:
        """Let every lane run a warm-up's batch, before requests come. Raises EdgertError."""
        for completed in self._lanes.run_once(part, self._hidden):
            self._answers.count(part.rows, completed)

    def pool_of(self, name: str) -> HandedPool | None:
        """Return the pool of the device on which the lanes read an input. Values of shapes are the host's."""
        is_read = any(tensor.name == name and not tensor.is_shape_tensor for tensor in self.config.inputs)
        return self._pool if is_read else None

    def statistics(self) -> ModelStatistics:
        """Return counts."""
        return self.counts.snapshot(pending=self.feed.waiting, sequences=self.feed.sequences)

    def pulses(self, hang_s: float) -> Iterable[Pulse]:
        """Return the pulse of each lane, and of the requests that wait for one."""
        return self._lanes.pulses(hang_s, self.feed.ready)

    @property
    def is_idle(self) -> bool:
        """Every request has had its final response."""
        return not self._open

    def refuse(self) -> None:
        """Take no more requests; those that wait go at once."""
        self._is_refusing = True
        self.feed.close()
        self._lanes.look()

    def give_up(self) -> None:
        """Answer those that wait with an error."""
        self.feed.drop_all(UnavailableError(f"Model '{self.name}' was unloaded."))

    def close(self) -> None:
        """Close lanes and engine."""
        self._lanes.close()
        self.live.closed()

    def _enqueue(self, queued: Queued, now_ns: int) -> None:
        with self._lock:
            self._open += 1
        try:
            self.feed.offer(queued, now_ns)
        except RequestError as error:
            with self._lock:
                self._open -= 1
            if self._is_refusing:
                raise ClosedError(f"Model '{self.name}' takes no more requests.") from error
            self.counts.failed(queued.arrived_ns, error)
            raise

    def _enqueue_in_order(self, queued: Queued, now_ns: int, turn: OrderedResponder) -> None:
        queued.request.responder = turn
        try:
            self._enqueue(queued, now_ns)
        except (RequestError, ClosedError):
            queued.request.responder = turn.responder
            turn.leave()
            raise

    def _ended(self, queued: Queued, response: InferResponse) -> None:
        with self._lock:
            self._open -= 1
