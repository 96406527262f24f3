"""Which requests go together: the Inference Server's dynamic batcher."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from edgert.errors import EdgertError, UnavailableError
from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.deadlines import Deadlines
from edgert.schedule.queued import STOPPED_TEXT, Dropped, OnDrop, Queued, QueueLimits, cancelled

Line = OrderedDict[int, Queued]  # by number, in order of coming
NO_LIMITS = QueueLimits()


class RequestQueue:
    """Any thread offers requests, schedulers take batches; several do where a model is on several GPUs.

    Levels go strictly by priority, a level in order of coming, its delayed requests after the others: each
    level has two lines. The batch is formed from the front of the lines and goes at once if it is full, has
    a preferred size, or cannot grow because the next request does not fit or has another key; else when
    its oldest request has waited for `policy.delay_ns`. A request of a higher rank than those of the batch
    sends them back to their lines. What is not taken goes to `on_drop` with its error, outside the lock.
    """

    def __init__(
        self,
        policy: BatchPolicy,
        on_drop: OnDrop,
        levels: Sequence[QueueLimits] = (NO_LIMITS,),
        default_level: int = 1,
    ) -> None:
        self._policy = policy
        self._on_drop = on_drop
        self._levels = tuple(levels)
        self._default_level = default_level
        self._lock = threading.Lock()
        self._sizes = [0] * len(self._levels)
        self._lines: dict[int, Line] = {}  # by rank; those that were ever used
        self._order: list[Line] = []
        self._deadlines = Deadlines()
        self._has_deadlines = False  # a request has had one
        self._number = 0
        self._waiting = 0
        self._is_open = True
        self._is_hurried = False
        self._batch: list[Queued] = []  # taken from the front of the lines
        self._rows = self._since_ns = 0
        self._preferred_count = 0  # of its requests, together of the largest preferred size
        self._last_rank = -1
        self._is_sealed = False  # the next request cannot join it
        self.is_awaited = True  # a lane would take a request now; the scheduler writes it

    @property
    def is_batching(self) -> bool:
        """Requests may go together."""
        return self._policy.max_batch > 1

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._waiting

    def offer(self, queued: Queued, now_ns: int) -> None:
        """Let a request wait. A priority that no level has is the default one.

        Raises:
            UnavailableError: its level is full, or the queue closed; `on_drop` will not hear of it.
        """
        level = queued.priority if 0 < queued.priority <= len(self._levels) else self._default_level
        limits = self._levels[level - 1]
        with self._lock:
            if not self._is_open:
                raise UnavailableError(STOPPED_TEXT)
            if limits.max_size and self._sizes[level - 1] >= limits.max_size:
                raise UnavailableError("Exceeds maximum queue size")
            self._enqueue(queued, level - 1, now_ns)
            if (queued.timeout_ns or limits.timeout_ns) and (
                timeout_ns := limits.timeout_of(queued.timeout_ns)
            ):
                self._deadlines.add(queued, now_ns + timeout_ns)
                self._has_deadlines = True

    def close(self) -> None:
        """Take no more requests; those that wait can be taken at once."""
        with self._lock:
            self._is_open = False
            self._is_hurried = True

    def hurry(self) -> None:
        """Let incomplete batches go without delay from now on."""
        with self._lock:
            self._is_hurried = True

    def is_due(self, now_ns: int) -> bool:
        """Say whether `take` has a batch. Requests whose time is up are rejected or delayed now."""
        if not self._waiting:
            return False
        dropped: Dropped = []
        with self._lock:
            if self._has_deadlines:
                self._time_out(now_ns, dropped)
            is_due = self._due_count(now_ns, dropped) > 0
        if dropped:
            self._report(dropped)
        return is_due

    def due_ns(self, now_ns: int = 0) -> int | None:
        """Return when a batch has to go or a request's time is up, whichever is next after `now_ns`."""
        if not self._waiting:
            return None
        with self._lock:
            times_ns = [self._batch_due_ns()]
            if (deadline_ns := self._deadlines.next_ns()) is not None:
                times_ns.append(deadline_ns)
        return min([time_ns for time_ns in times_ns if time_ns > now_ns] or times_ns)

    def take(self, now_ns: int) -> list[Queued]:
        """Return the next batch, or nothing while it is not due."""
        if not self._waiting:
            return []
        dropped: Dropped = []
        batch: list[Queued] = []
        with self._lock:
            if self._has_deadlines:
                self._time_out(now_ns, dropped)
            while not batch and (count := self._due_count(now_ns, dropped)):
                batch = self._pop(count, dropped)
        if dropped:
            self._report(dropped)
        return batch

    def drop_all(self, error: EdgertError) -> None:
        """Answer every request that waits with `error`."""
        dropped: Dropped = []
        with self._lock:
            self._disband()
            for line in self._order:
                for queued in line.values():
                    self._forget(queued)
                    dropped.append((queued, error))
                line.clear()
        self._report(dropped)

    def _enqueue(self, queued: Queued, level: int, now_ns: int) -> None:
        self._number += 1
        queued.number, queued.since_ns, queued.rank = self._number, now_ns, level * 2
        self._line(queued.rank)[queued.number] = queued
        self._sizes[level] += 1
        self._waiting += 1
        if queued.rank < self._last_rank:
            self._disband()

    def _line(self, rank: int) -> Line:
        if (line := self._lines.get(rank)) is None:
            line = self._lines[rank] = OrderedDict()
            self._order = [self._lines[known] for known in sorted(self._lines)]
        return line

    def _due_count(self, now_ns: int, dropped: Dropped) -> int:
        """Return how many requests of the batch go now."""
        if not self._is_sealed and len(self._batch) < self._waiting:
            self._form(dropped)
        if self._rows >= self._policy.max_batch:
            return len(self._batch)
        if self._preferred_count:
            return self._preferred_count
        return len(self._batch) if self._batch and now_ns >= self._batch_due_ns() else 0

    def _batch_due_ns(self) -> int:
        is_ready = self._is_sealed or self._preferred_count or len(self._batch) < self._waiting
        if is_ready or self._is_hurried or not self._policy.delay_ns:
            return 0
        return self._since_ns + self._policy.delay_ns

    def _form(self, dropped: Dropped) -> None:
        """Move requests from the lines into the batch until it cannot grow."""
        for line in self._order:
            while line:
                number, queued = line.popitem(last=False)
                if queued.request.is_cancelled:
                    self._forget(queued)
                    dropped.append((queued, cancelled()))
                elif not self._admit(queued):
                    line[number] = queued
                    line.move_to_end(number, last=False)
                    self._is_sealed = True
                    return

    def _admit(self, queued: Queued) -> bool:
        batch, rows = self._batch, self._rows + queued.rows
        if batch:
            if rows > self._policy.max_batch or queued.key != batch[0].key:
                return False
            self._since_ns = min(self._since_ns, queued.since_ns)
        else:
            self._since_ns = queued.since_ns
        batch.append(queued)
        self._rows, self._last_rank = rows, queued.rank
        if rows in self._policy.preferred:
            self._preferred_count = len(batch)
        return True

    def _pop(self, count: int, dropped: Dropped) -> list[Queued]:
        taken, self._batch = self._batch[:count], self._batch[count:]
        if self._batch:
            self._disband()
        else:
            self._clear_batch()
        batch = []
        for queued in taken:
            self._forget(queued)
            if queued.request.is_cancelled:
                dropped.append((queued, cancelled()))
            else:
                batch.append(queued)
        return batch

    def _disband(self) -> None:
        """Send the requests of the batch back to the front of their lines."""
        for queued in reversed(self._batch):
            line = self._lines[queued.rank]
            line[queued.number] = queued
            line.move_to_end(queued.number, last=False)
        self._clear_batch()

    def _clear_batch(self) -> None:
        self._batch = []
        self._rows = self._preferred_count = self._since_ns = 0
        self._last_rank = -1
        self._is_sealed = False

    def _time_out(self, now_ns: int, dropped: Dropped) -> None:
        for queued in self._deadlines.pop(now_ns):
            if queued.number not in self._lines[queued.rank]:
                self._disband()
            del self._lines[queued.rank][queued.number]
            if self._levels[queued.rank // 2].on_timeout == "reject":
                self._forget(queued)
                dropped.append((queued, UnavailableError("Request timeout expired")))
            else:
                queued.rank += 1
                self._line(queued.rank)[queued.number] = queued

    def _forget(self, queued: Queued) -> None:
        self._sizes[queued.rank // 2] -= 1
        self._waiting -= 1
        if self._has_deadlines:
            self._deadlines.discard(queued)

    def _report(self, dropped: Dropped) -> None:
        for queued, error in dropped:
            self._on_drop(queued, error)
