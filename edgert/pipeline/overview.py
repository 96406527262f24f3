"""How a line is, in the few numbers that fit one line of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from edgert.capture.state import SourceState
from edgert.pipeline.link import Link
from edgert.pipeline.model_set import ModelState
from edgert.publish.sink import SinkStats


class Overview(msgspec.Struct, frozen=True):
    """The whole line at one moment; counts are since it was opened."""

    sources: dict[str, SourceState]
    models: dict[str, str]  # their states
    published: int  # results
    dropped: int  # frames that no model answered
    lost: int  # results that a sink dropped, or could not write


class SourceLike(Protocol):
    """A source's state and what it refused."""

    @property
    def state(self) -> SourceState:
        """Its state."""

    @property
    def refused(self) -> int:
        """Frames that arrived and were handed to no model."""


def overview_of(
    sources: Mapping[str, SourceLike],
    links: Iterable[Link],
    models: Mapping[str, ModelState],
    sinks: Iterable[SinkStats],
) -> Overview:
    """Return the sums. Any thread."""
    links = list(links)
    return Overview(
        {name: source.state for name, source in dict(sources).items()},
        {name: model.state for name, model in dict(models).items()},
        sum(link.published for link in links),
        sum(source.refused for source in dict(sources).values())
        + sum(link.dropped.total() for link in links),
        sum(sink.failed + sum(sink.dropped.values()) for sink in sinks),
    )
