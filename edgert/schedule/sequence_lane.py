"""The sequences of one lane, and which of their requests go together."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Several

from edgert.errors import EdgertError
from edgert.schedule.queued import Dropped, OnDrop, Queued, cancelled
from edgert.schedule.sequence import Sequence, SequencePolicy, Turn

Ready = tuple[int, int, Sequence]  # since when its next request waits, that request's number


class SequenceLane:
    """Where the scheduler takes one lane's batches; its owner calls `complete` when one is done.

    A sequence is idle, ready (its next request waits in `_ready`, the oldest first) or running, so that never
    two of its requests run at a time. What `Sequences` calls needs the lock: `first_free`, `seated`,
    `seat`, `settle`, `dismiss`. A sequence that is over goes to `on_over`.
    """

    def __init__(
        self,
        policy: SequencePolicy,
        lock: threading.Lock,
        on_drop: OnDrop,
        on_over: Callable[[SequenceLane, Sequence, int], None],
    ) -> None:
        self._policy = policy
        self._lock = lock
        self._on_drop = on_drop
        self._on_over = on_over
        self._free = list(range(policy.seats))  # a heap
        self._seated: dict[int, Sequence] = {}  # by slot
        self._ready: list[Ready] = []
        self._idle: OrderedDict[int, Sequence] = OrderedDict()  # by slot, since longest first
        self.is_hurried = False
        self.is_awaited = True  # a lane would take a request now; the scheduler writes it

    @property
    def waiting(self) -> int:
        """Requests that wait for this lane."""
        with self._lock:
            return sum(len(sequence.pending) for sequence in self._seated.values())

    @property
    def first_free(self) -> int | None:
        """The lowest slot that no sequence has."""
        return self._free[0] if self._free else None

    def is_due(self, now_ns: int) -> bool:
        """Say whether `take` has a batch. Sequences that were idle for too long end now."""
        if not self._ready and not self._idle:
            return False
        with self._lock:
            self._end_idle(now_ns)
            return self._due_size(now_ns) > 0

    def due_ns(self, now_ns: int = 0) -> int | None:
        """Return when a batch has to go or an idle sequence ends, whichever is next after `now_ns`."""
        with self._lock:
            times_ns = [self._batch_due_ns()] if self._ready else []
            times_ns += [sequence.idle_since_ns + self._policy.idle_ns for sequence in self._longest_idle()]
        return min([time_ns for time_ns in times_ns if time_ns > now_ns] or times_ns, default=None)

    def take(self, now_ns: int) -> list[Turn | None]:
        """Return the next batch, or nothing while it is not due.

        Direct: by slot, None where a slot has no request ready, up to the last one that has.
        """
        dropped: Dropped = []
        turns: list[Turn] = []
        with self._lock:
            self._end_idle(now_ns)
            while not turns and (size := self._due_size(now_ns)):
                turns = self._gather(size, now_ns, dropped)
        for queued, error in dropped:
            self._on_drop(queued, error)
        return self._by_slot(turns) if self._policy.is_direct else list(turns)

    def complete(self, turns: Several[Turn | None], now_ns: int) -> None:
        """Let the sequences of a batch go on, or end; after an error too."""
        with self._lock:
            for turn in turns:
                if turn is not None:
                    turn.sequence.place = "idle"
                    self.settle(turn.sequence, now_ns)

    def seated(self) -> Several[Sequence]:
        """Return the sequences that have a slot."""
        return list(self._seated.values())

    def seat(self, sequence: Sequence, now_ns: int) -> None:
        """Give a sequence the lowest free slot, until it is over."""
        sequence.lane, sequence.slot = self, heapq.heappop(self._free)
        sequence.place = "idle"
        self._seated[sequence.slot] = sequence
        self.settle(sequence, now_ns)

    def settle(self, sequence: Sequence, now_ns: int) -> None:
        """Find out what becomes of an idle sequence: it is ready, or over, or stays idle."""
        if sequence.place != "idle":
            return
        self._idle.pop(sequence.slot, None)
        if sequence.pending:
            sequence.place = "ready"
            first = sequence.pending[0]
            heapq.heappush(self._ready, (first.since_ns, first.number, sequence))
        elif sequence.is_closing:
            self._end(sequence, now_ns)
        else:
            sequence.idle_since_ns = now_ns
            self._idle[sequence.slot] = sequence

    def dismiss(self, error: EdgertError) -> Dropped:
        """End all sequences and return their requests that wait; those that run end with what runs."""
        self._ready.clear()
        dropped: Dropped = []
        for sequence in list(self._seated.values()):
            dropped += [(queued, error) for queued in sequence.pending]
            self._close(sequence, now_ns=0)
        return dropped

    def _due_size(self, now_ns: int) -> int:
        """Return how many requests go now."""
        available = min(len(self._ready), self._policy.max_batch)
        if available == self._policy.max_batch or not available:
            return available
        if preferred := max((size for size in self._policy.preferred if size <= available), default=0):
            return preferred
        return available if now_ns >= self._batch_due_ns() else 0

    def _batch_due_ns(self) -> int:
        policy = self._policy
        has_enough = policy.is_direct and len(self._ready) >= policy.utilization_min * policy.seats
        if has_enough or self.is_hurried or not policy.delay_ns:
            return 0
        return self._ready[0][0] + policy.delay_ns

    def _gather(self, size: int, now_ns: int, dropped: Dropped) -> list[Turn]:
        """Take the oldest requests that share a key; a sequence whose request was cancelled ends."""
        turns: list[Turn] = []
        others: list[Ready] = []
        while self._ready and len(turns) < size:
            entry = heapq.heappop(self._ready)
            sequence = entry[2]
            first = sequence.pending[0]
            if first.request.is_cancelled:
                dropped += [(queued, cancelled()) for queued in sequence.pending]
                self._close(sequence, now_ns)
            elif turns and first.key != turns[0].queued.key:
                others.append(entry)
            else:
                turns.append(self._begin(sequence))
        for entry in others:
            heapq.heappush(self._ready, entry)
        return turns

    @staticmethod
    def _begin(sequence: Sequence) -> Turn:
        sequence.place = "running"
        queued: Queued = sequence.pending.popleft()
        step = queued.request.sequence
        return Turn(queued, sequence, step.is_start, step.is_end)

    @staticmethod
    def _by_slot(turns: list[Turn]) -> list[Turn | None]:
        by_slot: list[Turn | None] = [None] * (1 + max((turn.sequence.slot for turn in turns), default=-1))
        for turn in turns:
            by_slot[turn.sequence.slot] = turn
        return by_slot

    def _end_idle(self, now_ns: int) -> None:
        for sequence in self._longest_idle():
            if now_ns - sequence.idle_since_ns < self._policy.idle_ns:
                return
            self._close(sequence, now_ns)

    def _longest_idle(self) -> list[Sequence]:
        return list(self._idle.values())[:1]

    def _close(self, sequence: Sequence, now_ns: int) -> None:
        """End a sequence that has no request any more, at once unless one runs."""
        sequence.pending.clear()
        sequence.is_closing = True
        if sequence.place != "running":
            sequence.place = "idle"
            self.settle(sequence, now_ns)

    def _end(self, sequence: Sequence, now_ns: int) -> None:
        del self._seated[sequence.slot]
        heapq.heappush(self._free, sequence.slot)
        self._on_over(self, sequence, now_ns)
