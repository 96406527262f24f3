"""One source feeding one model: what was handed over, published and dropped, and why."""

from __future__ import annotations

import msgspec

from edgert.capture.options import SourceOptions
from edgert.errors import BusyError, ClosedError, EdgertError, ModelError
from edgert.frames.frame import Frame
from edgert.pipeline.loaded_model import LoadedModel
from edgert.schedule.route import Route
from edgert.stats import Latency, LatencySummary, Tally

_REFUSALS: dict[str, EdgertError] = {
    "superseded": BusyError("A newer frame of the same source took this one's place."),
    "stale": BusyError("The frame waited longer than max_age_ms."),
    "no_slot": BusyError("A newer frame needed this one's slot."),
    "draining": ClosedError("The service stops."),
    "unloaded": ModelError("The model was unloaded."),
    "no_model": ModelError("The model is not loaded."),
}


def make_links(source: str, options: SourceOptions) -> list[Link]:
    """Return the links from a source to each of its models."""
    return [
        Link(
            source,
            model,
            priority=options.priority,
            keeps_newest_only=options.chosen_policy() == "latest",
            max_age_ns=int((options.max_age_ms or 0) * 1e6),
        )
        for model in options.models
    ]


class LinkStatistics(msgspec.Struct, frozen=True):
    """`admitted` = `published` + all of `dropped` + what is on its way."""

    admitted: int
    published: int
    dropped: dict[str, int]
    latency: LatencySummary  # captured to handed to the sinks


class Link:
    """Counts one source's frames for one model. Its route follows the model from version to version."""

    def __init__(
        self, source: str, model: str, *, priority: int, keeps_newest_only: bool, max_age_ns: int
    ) -> None:
        self.source = source
        self.model = model  # `name` or `name/version`
        self._priority = priority
        self._keeps_newest_only = keeps_newest_only
        self._max_age_ns = max_age_ns
        self._loaded: LoadedModel | None = None
        self._route = self._make_route()
        self.admitted = 0  # written by the capture thread
        self.published = 0  # written by the decode thread
        self.dropped = Tally()
        self.latency = Latency()

    def offer(self, frame: Frame, loaded: LoadedModel, now_ns: int) -> bool:
        """Let the frame wait for a loaded model; False once that model takes no more."""
        if loaded is not self._loaded:
            self._loaded = loaded
            self._route = self._make_route()
        return loaded.batcher.offer(self._route, frame, now_ns)

    def drop_oldest(self, now_ns: int) -> bool:
        """Drop the oldest frame that waits, to free its slot."""
        return self._loaded is not None and self._loaded.batcher.drop_oldest(self._route, "no_slot", now_ns)

    def drop(self, frame: Frame, reason: str, error: EdgertError | None = None) -> None:
        """Count a frame that gets no result, and tell its sender."""
        self.dropped.add(reason)
        if frame.reply is not None:
            frame.reply.refuse(error or _REFUSALS[reason])

    def _make_route(self) -> Route:
        return Route(
            self.source,
            self.model,
            priority=self._priority,
            keeps_newest_only=self._keeps_newest_only,
            max_age_ns=self._max_age_ns,
        )

    def statistics(self) -> LinkStatistics:
        """Return the counts."""
        return LinkStatistics(self.admitted, self.published, self.dropped.snapshot(), self.latency.summary())
