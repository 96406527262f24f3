"""What the pipeline asks of a receiver of results."""

from __future__ import annotations

from typing import Protocol

from edgert.frames.result import Result


class Sink(Protocol):
    """Takes results. `send` never blocks: a sink queues, bounded, and counts what it drops."""

    name: str

    def open(self) -> None:
        """Start. An unreachable receiver is no error: the sink keeps trying. Raises ConfigError."""

    def send(self, result: Result) -> None:
        """Queue one result. Any thread; returns at once."""

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, at most for `timeout_s`, then stop. What is left is counted as dropped."""
