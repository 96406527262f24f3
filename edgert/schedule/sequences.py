"""Which sequence has a seat on which lane: the Inference Server's sequence batcher."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator

from edgert.errors import EdgertError, RequestError, UnavailableError
from edgert.schedule.queued import STOPPED_TEXT, Dropped, OnDrop, Queued
from edgert.schedule.sequence import Sequence, SequencePolicy
from edgert.schedule.sequence_lane import SequenceLane


class Sequences:
    """Any thread offers requests; each of `lanes` is one lane's queue, with one port of the scheduler.

    A sequence gets a seat when it starts, where the lowest slot is free, and keeps it until its last request
    is done or it was idle for too long. Without a seat it waits, first come first served. A start while the
    sequence before it of the same id goes on closes that, and begins after its last request. Once a
    request is found cancelled, all that wait of its sequence are.
    """

    def __init__(self, model: str, lane_count: int, policy: SequencePolicy, on_drop: OnDrop) -> None:
        self._model = model
        self._on_drop = on_drop
        self._lock = threading.Lock()
        self._newest: dict[int | str, Sequence] = {}  # by id
        self._backlog: list[tuple[int, Sequence]] = []  # a heap by number
        self._count = 0
        self._number = 0
        self._is_open = True
        self.lanes = tuple(
            SequenceLane(policy, self._lock, self._on_drop, self._over) for _ in range(lane_count)
        )

    @property
    def count(self) -> int:
        """Sequences under way, those without a seat included."""
        return self._count

    @property
    def is_awaited(self) -> bool:
        """A lane would take a request now: whoever offers one wakes the scheduler."""
        return any(lane.is_awaited for lane in self.lanes)

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        with self._lock:
            return sum(len(sequence.pending) for sequence in self._living())

    def offer(self, queued: Queued, now_ns: int) -> None:
        """Let a request, whose `sequence` is not None, wait for its turn.

        Raises:
            RequestError: it has no id or more than one row, or its sequence has not started or has ended.
            UnavailableError: no more are taken.
        """
        step = queued.request.sequence
        self._check(queued)
        with self._lock:
            if not self._is_open:
                raise UnavailableError(STOPPED_TEXT)
            self._number += 1
            queued.number, queued.since_ns = self._number, now_ns
            if step.is_start:
                self._start(queued, now_ns)
            else:
                self._continue(queued, now_ns)

    def close(self) -> None:
        """Take no more requests; those that wait can be taken at once."""
        with self._lock:
            self._is_open = False
        self.hurry()

    def hurry(self) -> None:
        """Let incomplete batches go without delay from now on."""
        with self._lock:
            for lane in self.lanes:
                lane.is_hurried = True

    def drop_all(self, error: EdgertError) -> None:
        """Answer every request that waits with `error` and end all sequences, once what runs is done."""
        with self._lock:
            unseated = [sequence for sequence in self._living() if sequence.lane is None]
            dropped: Dropped = [(queued, error) for sequence in unseated for queued in sequence.pending]
            for sequence in list(self._living()):
                sequence.then = None
            self._backlog.clear()
            self._newest = {sequence.id: sequence for lane in self.lanes for sequence in lane.seated()}
            self._count -= len(unseated)
            for lane in self.lanes:
                dropped += lane.dismiss(error)
        for queued, reason in dropped:
            self._on_drop(queued, reason)

    def _check(self, queued: Queued) -> None:
        step = queued.request.sequence
        if step is None or not step.id:
            raise RequestError(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty "
                "correlation ID"
            )
        if queued.rows > 1:
            raise RequestError(
                f"inference request to model '{self._model}' must specify batch-size 1 due to requirements "
                "of sequence batcher"
            )

    def _start(self, queued: Queued, now_ns: int) -> None:
        step = queued.request.sequence
        sequence = Sequence(step.id, queued.number)
        sequence.pending.append(queued)
        sequence.is_closing = step.is_end
        self._count += 1
        before = self._newest.get(step.id)
        self._newest[step.id] = sequence
        if before is None:
            self._place(sequence, now_ns)
        else:
            before.then = sequence
            before.is_closing = True
            self._settle(before, now_ns)

    def _continue(self, queued: Queued, now_ns: int) -> None:
        step = queued.request.sequence
        sequence = self._newest.get(step.id)
        if sequence is None or sequence.is_closing:
            raise RequestError(
                f"inference request for sequence {step.id} to model '{self._model}' must specify the START "
                "flag on the first request of the sequence"
            )
        sequence.pending.append(queued)
        sequence.is_closing = step.is_end
        self._settle(sequence, now_ns)

    @staticmethod
    def _settle(sequence: Sequence, now_ns: int) -> None:
        if sequence.lane is not None:
            sequence.lane.settle(sequence, now_ns)

    def _place(self, sequence: Sequence, now_ns: int) -> None:
        free = [
            (lane.first_free, index) for index, lane in enumerate(self.lanes) if lane.first_free is not None
        ]
        if free:
            self.lanes[min(free)[1]].seat(sequence, now_ns)
        else:
            heapq.heappush(self._backlog, (sequence.number, sequence))

    def _over(self, lane: SequenceLane, sequence: Sequence, now_ns: int) -> None:
        """Give the seat of a sequence that is over to the one that has waited longest."""
        sequence.state = sequence.lane = None
        self._count -= 1
        if self._newest.get(sequence.id) is sequence:
            del self._newest[sequence.id]
        if sequence.then is not None:
            heapq.heappush(self._backlog, (sequence.then.number, sequence.then))
        if self._backlog:
            lane.seat(heapq.heappop(self._backlog)[1], now_ns)

    def _living(self) -> Iterator[Sequence]:
        first = [sequence for lane in self.lanes for sequence in lane.seated()]
        for sequence in [*first, *(waiting for _, waiting in self._backlog)]:
            then: Sequence | None = sequence
            while then is not None:
                yield then
                then = then.then
