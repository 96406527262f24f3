"""A sink that gets only what its filter lets through."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import msgspec

from edgert.frames.result import Result
from edgert.publish.filters import ResultFilter
from edgert.publish.sink import Announcer, Sink, SinkPulse, SinkStats


class FilteredSink:
    """A Sink in front of another. What is left out is counted, and neither queued nor stored."""

    def __init__(self, sink: Sink, chooses: ResultFilter) -> None:
        self.name = sink.name
        self._sink = sink
        self._chooses = chooses
        self._lock = threading.Lock()  # a filter remembers what it let through

    @property
    def announcer(self) -> Announcer | None:
        """The way to retained states, which no filter concerns."""
        return self._sink.announcer

    def open(self) -> None:
        """Open the sink. Raises ConfigError."""
        self._sink.open()

    def send(self, result: Result) -> None:
        """Hand on what the filter leaves of the result. Any thread; returns at once and never raises."""
        with self._lock:
            chosen = self._chooses(result)
        if chosen is not None:
            self._sink.send(chosen)

    def close(self, timeout_s: float) -> None:
        """Close the sink."""
        self._sink.close(timeout_s)

    def pulses(self) -> Sequence[SinkPulse]:
        """Return how far the sink's threads have come."""
        return self._sink.pulses()

    def statistics(self) -> SinkStats:
        """Return the sink's counts, and how many results were left out."""
        left_out = self._chooses.left_out.snapshot()
        return msgspec.structs.replace(self._sink.statistics(), left_out=left_out)
