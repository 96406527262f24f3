"""A sequence: requests that one lane runs one after the other."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgert.models.model_config import SequenceBatching
from edgert.schedule.queued import Queued

if TYPE_CHECKING:
    from edgert.schedule.sequence_lane import SequenceLane

Place = Literal["backlog", "idle", "ready", "running"]


class Sequence:
    """One run from start to end; the next one of the same id is another. The lock of `Sequences` guards it.

    `state` is the owner's of the model: it reads and writes it while a request of the sequence runs, and
    loses it at the sequence's end.
    """

    __slots__ = (
        "id",
        "idle_since_ns",
        "is_closing",
        "lane",
        "number",
        "pending",
        "place",
        "slot",
        "state",
        "then",
    )

    def __init__(self, id: int | str, number: int) -> None:  # noqa: A002 - what everybody calls it
        self.id = id
        self.number = number  # in order of starting
        self.pending: deque[Queued] = deque()
        self.place: Place = "backlog"
        self.lane: SequenceLane | None = None
        self.slot = -1
        self.is_closing = False  # its last request has come
        self.then: Sequence | None = None  # has the same id and starts after it
        self.idle_since_ns = 0
        self.state: Any = None

    def __repr__(self) -> str:
        return f"Sequence({self.id!r}, {self.place}, {len(self.pending)} pending)"


class Turn(msgspec.Struct, eq=False):
    """A request of a sequence in a batch."""

    queued: Queued
    sequence: Sequence
    is_start: bool
    is_end: bool


class SequencePolicy(msgspec.Struct, frozen=True):
    """How sequences are batched on each lane."""

    max_batch: int = 1
    seats: int = 1  # sequences that a lane has at once
    is_direct: bool = True  # a seat is a slot of the batch
    delay_ns: int = 0
    utilization_min: float = 0.0  # direct: with this part of the slots ready a batch goes at once
    preferred: tuple[int, ...] = ()  # oldest
    idle_ns: int = 1_000_000_000

    @classmethod
    def of(cls, max_batch: int, batching: SequenceBatching) -> SequencePolicy:
        """Return what config.pbtxt says. A model that does not batch counts as one of batch 1."""
        max_batch = max(max_batch, 1)
        is_direct = batching.kind == "direct"
        return cls(
            max_batch=max_batch,
            seats=max_batch if is_direct else max(batching.max_candidate_sequences, 1),
            is_direct=is_direct,
            delay_ns=batching.max_queue_delay_microseconds * 1000,
            utilization_min=batching.minimum_slot_utilization if is_direct else 0.0,
            preferred=batching.preferred_batch_size,
            idle_ns=(batching.max_sequence_idle_microseconds or 1_000_000) * 1000,
        )
