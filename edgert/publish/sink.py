"""What the pipeline asks of receivers of results."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from edgert.frames.channel import ChannelStatistics
from edgert.frames.frame import Frame
from edgert.frames.result import Result
from edgert.stats import LatencySummary

NodeState = Literal["init", "ready", "draining", "disconnected"]


class SinkStats(msgspec.Struct, frozen=True):
    """What a sink did since it was made. Every result sent to it is in one of the first four."""

    sent: int  # written, or handed over to a connection that was up
    failed: int  # could not be encoded, or the write failed
    dropped: dict[str, int]  # by reason: queue_full, broker_away, closed, too_large
    queue: ChannelStatistics
    acknowledged: int  # of those sent, where the receiver says so (MQTT QoS 1 and 2)
    refused: int  # of those sent, what the receiver said no to
    is_connected: bool
    latency: LatencySummary  # captured to sent


class Announcer(Protocol):
    """Where the service says how it, its sources and its models are. Any thread; never blocks or raises."""

    def publish_state(self, state: NodeState) -> None:
        """Retain the node's state."""

    def publish_retained(self, suffix: str, payload: bytes) -> None:
        """Retain `payload` below the node's prefix, now and after every reconnect; empty removes it."""

    def publish(self, suffix: str, payload: bytes) -> None:
        """Publish once, below the node's prefix. Not kept while the receiver is away."""


class Sink(Protocol):
    """Takes results. `send` never blocks: a sink queues, bounded, and counts what it drops."""

    name: str

    @property
    def announcer(self) -> Announcer | None:
        """The way to retained states, for a receiver that has them."""

    def open(self) -> None:
        """Start. An unreachable receiver is no error: the sink keeps trying. Raises ConfigError."""

    def send(self, result: Result) -> None:
        """Queue one result. Any thread; returns at once and never raises."""

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, at most for `timeout_s`, then stop. What is left is counted as dropped.

        Allowed at any time, also again; whatever is sent afterwards is counted as dropped.
        """

    def statistics(self) -> SinkStats:
        """Return what the sink did."""


class Tap(Protocol):
    """Takes sampled frames together with their results."""

    name: str

    def open(self) -> None:
        """Start. Raises ConfigError."""

    def wants(self, source: str, now_mono_ns: int) -> bool:
        """Say whether this frame's pixels are wanted, and count it as taken. Cheap; any thread."""

    def give_back(self, source: str) -> None:
        """Say that a frame that was counted as taken is not offered: the next one is wanted. Any thread."""

    def offer(self, frame: Frame, result: Result) -> None:
        """Copy the pixels, once, and queue them. The caller may release its slot on return."""

    def close(self, timeout_s: float) -> None:
        """Deliver what is queued, at most for `timeout_s`, then stop."""

    def statistics(self) -> SinkStats:
        """Return what the tap did, in frames."""
