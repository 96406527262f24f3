"""A version whose answers are kept for requests that ask the same again."""

from __future__ import annotations

import time
from collections.abc import Iterable

from edgert.device.handed import HandedPool, on_host
from edgert.errors import ClosedError, RequestError
from edgert.frames.request import InferRequest, InferResponse, Responder
from edgert.inference.counts import Counts
from edgert.inference.response_cache import CacheKey, ResponseCache
from edgert.inference.served_version import ServedVersion
from edgert.pipeline.progress import Pulse
from edgert.serve.core import ModelStatistics


class CachedVersion:
    """A ServedVersion before another one, which it owns."""

    def __init__(self, served: ServedVersion, cache: ResponseCache) -> None:
        self.name = served.name
        self.version = served.version
        self.config = served.config
        self.counts = served.counts
        self._served = served
        self._cache = cache

    def infer(self, request: InferRequest) -> None:
        """Answer from the cache, at once, or let the version answer. Raises RequestError, ClosedError.

        What is kept is the host's: no tensor stays on a device before or behind it.
        """
        request.arrived_mono_ns = request.arrived_mono_ns or time.monotonic_ns()
        request.inputs, request.kept = on_host(request.inputs), None
        found = self._cache.look_up(request, self.version)
        if found is not None and found.answer is not None:
            answer = found.answer
            self.counts.hit(request.arrived_mono_ns, found.took_ns)
            request.responder.respond(
                InferResponse(self.name, self.version, request.id, answer.outputs, answer.parameters)
            )
            return
        if found is None:
            self._served.infer(request)
            return
        asked = request.responder
        request.responder = _Keeper(asked, self._cache, found.key, self.counts, found.took_ns)
        try:
            self._served.infer(request)
        except (RequestError, ClosedError):
            request.responder = asked  # another version may answer it
            raise

    def pool_of(self, name: str) -> HandedPool | None:
        """Return None: the inputs are looked up as arrays."""
        return None

    def statistics(self) -> ModelStatistics:
        """Return what it did since it was loaded."""
        return self._served.statistics()

    def pulses(self, hang_s: float) -> Iterable[Pulse]:
        """Return how far its lanes and queue have come."""
        return self._served.pulses(hang_s)

    @property
    def is_idle(self) -> bool:
        """Every request has had its final response."""
        return self._served.is_idle

    def refuse(self) -> None:
        """Take no more requests, and forget what was answered: a new version may have come."""
        self._served.refuse()
        self._cache.forget(self.name, self.version)

    def give_up(self) -> None:
        """Answer those that still wait with an error."""
        self._served.give_up()

    def close(self) -> None:
        """Free everything."""
        self._served.close()


class _Keeper:
    """A Responder that keeps the answer on its way."""

    def __init__(
        self, responder: Responder, cache: ResponseCache, key: CacheKey, counts: Counts, lookup_ns: int
    ) -> None:
        self._responder = responder
        self._cache = cache
        self._key = key
        self._counts = counts
        self._lookup_ns = lookup_ns

    def respond(self, response: InferResponse) -> None:
        """Keep a copy, then hand the response on."""
        if response.is_final and response.error is None:
            self._counts.missed(self._lookup_ns + self._cache.keep(self._key, response))
        self._responder.respond(response)
