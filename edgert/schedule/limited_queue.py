"""A queue whose batches run only when a rate limiter has the resources for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from edgert.schedule.rate_limiter import LimitedGroup, RateLimiter
from edgert.schedule.scheduler import BatchQueue


class LimitedQueue:
    """What one instance group sees of its model's queue: with its lanes, a port of the scheduler of its own.

    The port calls `done` once for each batch that `take` returned, when it has left the lane. A group that
    waits for resources and finds nothing due withdraws. Where another scheduler took what was due, that one
    reminds it, after it took; the group looks once more, after it was refused: so one of them sees it.
    """

    def __init__(self, queue: BatchQueue, limiter: RateLimiter, group: LimitedGroup) -> None:
        self.views: Sequence[LimitedQueue] = (self,)  # of the same queue and scheduler, this one included
        self.rivals: Sequence[LimitedQueue] = ()  # of the same queue, for other schedulers
        self._queue = queue
        self._limiter = limiter
        self._group = group
        self._is_awaited = True

    @property
    def is_awaited(self) -> bool:
        """A lane of this group would take a batch now. The queue is awaited while any group awaits it."""
        return self._is_awaited

    @is_awaited.setter
    def is_awaited(self, is_awaited: bool) -> None:
        self._is_awaited = is_awaited
        self._queue.is_awaited = any(view.is_awaited for view in self.views)

    def is_due(self, now_ns: int) -> bool:
        """Say whether `take` has a batch. If only resources are missing, the limiter wakes the scheduler."""
        if self._queue.is_due(now_ns):
            return self._limiter.may_acquire(self._group) or self._refused(now_ns)
        self.withdraw()
        self._remind_rivals()
        return False

    def due_ns(self, now_ns: int = 0) -> int | None:
        """Return when to look next."""
        return self._queue.due_ns(now_ns)

    def take(self, now_ns: int) -> list[Any]:
        """Return the next batch with the resources for it; nothing while either is missing."""
        if not self._limiter.try_acquire(self._group):
            self._refused(now_ns)
            return []
        batch = self._queue.take(now_ns)
        if not batch:
            self.done()
        if not self._queue.is_due(now_ns):
            for view in self.views:
                view.withdraw()
            self._remind_rivals()
        return batch

    def done(self) -> None:
        """Give back the resources of a batch."""
        self._limiter.release(self._group)

    def withdraw(self) -> None:
        """Let others have what this group waited for. For its own scheduler."""
        self._limiter.withdraw(self._group)

    def remind(self) -> None:
        """If this group waits for resources, let it look whether it still has a batch. Any thread."""
        self._limiter.remind(self._group)

    def _refused(self, now_ns: int) -> bool:
        if self.rivals and not self._queue.is_due(now_ns):
            self.withdraw()
        return False

    def _remind_rivals(self) -> None:
        for rival in self.rivals:
            rival.remind()


def limited(
    queue: BatchQueue, limiter: RateLimiter, groups: Sequence[LimitedGroup]
) -> tuple[LimitedQueue, ...]:
    """Return what each group sees of the queue. The groups must have been added to the limiter."""
    views = tuple(LimitedQueue(queue, limiter, group) for group in groups)
    for view in views:
        view.views = views
    return views


def limited_shares(
    shares: Sequence[BatchQueue], limiter: RateLimiter, groups: Sequence[Sequence[LimitedGroup]]
) -> list[tuple[LimitedQueue, ...]]:
    """Return the same for each share of a queue, with the groups that it has."""
    seen = [limited(share, limiter, own) for share, own in zip(shares, groups, strict=True)]
    for own in seen:
        for view in own:
            view.rivals = tuple(chain.from_iterable(others for others in seen if others is not own))
    return seen
