"""Requests of one queue on the lanes that it feeds: what the scheduler sees of a served model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from edgert.execute.engine import BufferSet, Completed, Lane
from edgert.execute.host_lane import HostLane
from edgert.inference.feed import Feed
from edgert.inference.fill import RequestFiller
from edgert.pipeline.loaded_model import Flights
from edgert.schedule.limited_queue import LimitedQueue
from edgert.schedule.request_queue import RequestQueue
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
        self._is_lone = len(lanes) == 1 and isinstance(batcher, RequestQueue) and not batcher.is_batching
        self.flights = {id(lane): Flights() for lane in lanes}
        self._thread = 0  # that completes a batch just now

    @property
    def is_completing_here(self) -> bool:
        """The calling thread completes a batch just now, and will look for the next one itself."""
        return self._thread == threading.get_ident()

    def submit(self, lane: Lane, buffers: BufferSet, waiting: list[Any]) -> None:
        """Start a batch. A short one is complete when this returns.

        To wake another thread for it would take longer, even where more wait that it could go on with: two
        threads that take turns at the interpreter's lock every few microseconds are slower than one.
        """
        self.flights[id(lane)].begun += 1
        fill = partial(self._fill, self._fillers[id(lane)], waiting)
        if self._is_lone and isinstance(lane, HostLane):
            completed = lane.run_short(buffers, fill, waiting)
            if completed is not None:
                self.complete(lane, completed)
                return
        lane.submit(buffers, fill, waiting)

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
