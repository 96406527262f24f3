"""What subscribers hear of a node: its states, those of its sources and models, its birth, its counts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from edgert import __version__
from edgert.pipeline.assembly import Assembly
from edgert.pipeline.model_set import ModelState
from edgert.pipeline.options import PipelineOptions
from edgert.publish import topics


class Announcements:
    """Says it to every sink that can. Any thread."""

    def __init__(self, assembly: Assembly, options: PipelineOptions) -> None:
        self._assembly = assembly
        self._options = options

    def stats(self) -> None:
        """Publish all counts, once."""
        payload = msgspec.json.encode(self._assembly.report())
        for announcer in self._assembly.announcers:
            announcer.publish(topics.STATS, payload)

    def state(self, state: Literal["init", "ready", "draining"]) -> None:
        """Retain the node's state."""
        for announcer in self._assembly.announcers:
            announcer.publish_state(state)

    def source(self, source: str) -> None:
        """Retain a source's state, with its counts."""
        self._retain(topics.source_state(source), self._assembly.source_report(source))

    def model(self, model: str, state: ModelState) -> None:
        """Retain a model's state."""
        self._retain(topics.model_state(model), state)

    def birth(self) -> None:
        """Retain who this is and what it has; each connection gets its own."""
        birth = {
            "node": self._options.node,
            "boot": self._assembly.boot,
            "started_utc_ns": time.time_ns(),
            "versions": {"edgert": __version__, "python": sys.version.split()[0]},
            "device": self._assembly.device_attributes(),
            "models": self._assembly.runtimes(),
            "sources": {name: list(source.models) for name, source in self._options.sources.items()},
        }
        for announcer in self._assembly.announcers:
            announcer.publish_birth(lambda session: msgspec.json.encode({**birth, "session": session}))

    def stopped_sources(self) -> None:
        """Retain that the sources are offline, as the node stops."""
        for source in self._options.sources:
            last = self._assembly.source_report(source)
            stopped = msgspec.structs.replace(last, state="offline", reason="the node stops")
            self._retain(topics.source_state(source), stopped)

    def forget(self, sources: Iterable[str], models: Iterable[str]) -> None:
        """Remove what is retained of sources and models that the node does not have any more."""
        suffixes = [*map(topics.source_state, sources), *map(topics.model_state, models)]
        for announcer in self._assembly.announcers:
            for suffix in suffixes:
                announcer.publish_retained(suffix, b"")

    def _retain(self, topic: str, body: Any) -> None:
        payload = msgspec.json.encode(body)
        for announcer in self._assembly.announcers:
            announcer.publish_retained(topic, payload)
