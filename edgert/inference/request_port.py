"""Requests of one queue on the lanes that it feeds: what the scheduler sees of a served model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from edgert.execute.engine import BufferSet, Completed, Lane
from edgert.inference.feed import Feed
from edgert.inference.fill import RequestFiller
from edgert.pipeline.loaded_model import Flights
from edgert.schedule.limited_queue import LimitedQueue
from edgert.schedule.scheduler import BatchQueue


class RequestPort:
    """A ModelPort of the scheduler, for queue `index` of a feed."""

    def __init__(
        self,
        feed: Feed,
        index: int,
        batcher: BatchQueue,
        lanes: Sequence[Lane],
        fillers: Mapping[int, RequestFiller],
        *,
        is_driven: bool,
    ) -> None:
        """`batcher` is what these lanes see of that queue; `fillers` are by the lanes' ids."""
        self.batcher = batcher
        self.lanes = lanes
        self.is_driven = is_driven
        self._feed = feed
        self._index = index
        self._fillers = fillers
        self.flights = {id(lane): Flights() for lane in lanes}
        self._thread = 0  # that completes a batch just now

    @property
    def is_completing_here(self) -> bool:
        """The calling thread completes a batch just now, and will look for the next one itself."""
        return self._thread == threading.get_ident()

    def submit(self, lane: Lane, buffers: BufferSet, waiting: list[Any]) -> None:
        """Start a batch."""
        self.flights[id(lane)].begun += 1
        lane.submit(buffers, partial(self._fill, self._fillers[id(lane)], waiting), waiting)

    def complete(self, lane: Lane, completed: Completed) -> None:
        """Answer the requests of a batch and free its buffers."""
        batch: Any = completed.tag
        self.flights[id(lane)].ended += 1
        self._thread = threading.get_ident()
        try:
            self._feed.done(self._index, batch, completed)
            lane.release(completed.buffers)
            if isinstance(self.batcher, LimitedQueue):
                self.batcher.done()
        finally:
            self._thread = 0

    def _fill(self, filler: RequestFiller, waiting: Sequence[Any], buffers: BufferSet) -> None:
        filler.fill(self._feed.parts(waiting), buffers)
