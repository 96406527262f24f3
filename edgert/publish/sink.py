"""What the pipeline asks of receivers of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from edgert.frames.channel import ChannelStatistics
from edgert.frames.frame import Frame
from edgert.frames.result import Result
from edgert.publish.session import Received
from edgert.stats import LatencySummary

NodeState = Literal["init", "ready", "draining", "disconnected"]


class SpoolStats(msgspec.Struct, frozen=True):
    """What a spool holds and has done. `dropped` counts results that were lost to it, by reason."""

    results: int
    bytes: int
    stored: int
    replayed: int
    dropped: dict[str, int]  # over_budget, expired, disk_failed, slow_disk, damaged, unstorable
    set_aside: int  # damaged files; how many results they held is not always known


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
    left_out: dict[str, int] = {}  # by the sink's filter, by reason; these are in none of the others
    spool: SpoolStats | None = None  # what waits on disk; results of an earlier start may be among those sent


class SinkPulse(msgspec.Struct, frozen=True):
    """How far a thread of a sink has come. `turns` is another number after each thing that it did."""

    part: str
    turns: int
    is_idle: bool  # no next turn is due: nothing waits for it, or its receiver is away


class Announcer(Protocol):
    """Where the service says how it, its sources and its models are. Any thread; never blocks or raises."""

    def publish_state(self, state: NodeState) -> None:
        """Retain the node's state."""

    def publish_retained(self, suffix: str, payload: bytes, *, newest_only: bool = False) -> None:
        """Retain `payload` below the node's prefix, now and after every reconnect; empty removes it.

        `newest_only`: it may take the place of an earlier one that still waits.
        """

    def publish_birth(self, make: Callable[[int], bytes]) -> None:
        """Retain the node's birth, made anew for each connection from its number, the first being 1."""

    def publish(self, suffix: str, payload: bytes) -> None:
        """Publish once, below the node's prefix. Not kept while the receiver is away."""

    def describe(self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]) -> None:
        """Say which models each source has, and which labels each detector, to those that show it."""

    def listen(self, suffix: str, on_message: Callable[[Received], None]) -> None:
        """Hear what comes to a topic filter below the node's prefix, now and after every reconnect.

        `on_message` is called on the connection's thread, which it must not keep.
        """

    def answer(self, topic: str, payload: bytes, correlation: bytes = b"") -> None:
        """Publish once to a complete topic. Not kept while the receiver is away."""


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

    def pulses(self) -> Sequence[SinkPulse]:
        """Return how far its threads have come. Any thread; takes no lock."""


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

    def pulses(self) -> Sequence[SinkPulse]:
        """Return how far its threads have come. Any thread; takes no lock."""
