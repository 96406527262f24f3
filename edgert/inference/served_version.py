"""What the core asks of a version that is served, whatever answers its requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from edgert.device.handed import HandedPool
from edgert.frames.request import InferRequest
from edgert.inference.counts import Counts
from edgert.models.model_config import ModelConfig
from edgert.pipeline.progress import Pulse
from edgert.serve.core import ModelStatistics


class ServedVersion(Protocol):
    """One version of a model at work: lanes behind a queue, or an ensemble of other models."""

    name: str
    version: int
    config: ModelConfig  # complete
    counts: Counts

    @property
    def is_idle(self) -> bool:
        """Every request has had its final response."""

    def infer(self, request: InferRequest) -> None:
        """Begin; the responder gets the rest. Any thread.

        Raises:
            RequestError: refused; the responder will hear nothing.
            ClosedError: it takes no more requests.
        """

    def pool_of(self, name: str) -> HandedPool | None:
        """Return the pool of the one device on which all lanes read an input; None: not there, or arrays."""

    def statistics(self) -> ModelStatistics:
        """Return what it did since it was loaded."""

    def pulses(self, hang_s: float) -> Iterable[Pulse]:
        """Return how far its lanes and queue have come."""

    def refuse(self) -> None:
        """Take no more requests; those that wait are still answered."""

    def give_up(self) -> None:
        """Answer those that still wait with an error."""

    def close(self) -> None:
        """Free everything. Nothing may be under way."""
