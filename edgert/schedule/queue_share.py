"""A queue from which the schedulers of several devices take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from edgert.schedule.scheduler import BatchQueue


class QueueShare:
    """What one scheduler sees of a queue that others take from as well, each through a share of its own.

    The queue itself must let several threads take. It is awaited while any share is. Who offers then has to
    wake a scheduler that sleeps, and whose share is awaited; if there is none, all whose share is. One that
    cannot take any more calls `on_full`, where another has to be woken for what is left.
    """

    def __init__(self, queue: BatchQueue, on_full: Callable[[], None]) -> None:
        self.shares: Sequence[QueueShare] = (self,)  # of the same queue, this one included
        self.lock = threading.Lock()  # of them all
        self._queue = queue
        self._on_full = on_full
        self._is_awaited = True

    @property
    def is_awaited(self) -> bool:
        """A lane of this scheduler would take a batch now. Only this scheduler writes it."""
        return self._is_awaited

    @is_awaited.setter
    def is_awaited(self, is_awaited: bool) -> None:
        if is_awaited == self._is_awaited:
            return
        with self.lock:  # else one could write down what was true before another one's change
            self._is_awaited = is_awaited
            self._queue.is_awaited = any(share.is_awaited for share in self.shares)
        if not is_awaited:
            self._on_full()

    def is_due(self, now_ns: int) -> bool:
        """Say whether `take` has a batch, if nobody else is quicker."""
        return self._queue.is_due(now_ns)

    def due_ns(self, now_ns: int = 0) -> int | None:
        """Return when to look next."""
        return self._queue.due_ns(now_ns)

    def take(self, now_ns: int) -> list[Any]:
        """Return the next batch; nothing while it is not due, or if another scheduler has it."""
        return self._queue.take(now_ns)


def share_queue(queue: BatchQueue, count: int, on_full: Callable[[], None]) -> tuple[BatchQueue, ...]:
    """Return what each of `count` schedulers sees of the queue; for a single one that is the queue."""
    if count == 1:
        return (queue,)
    shares = tuple(QueueShare(queue, on_full) for _ in range(count))
    for share in shares:
        share.shares, share.lock = shares, shares[0].lock
    return shares
