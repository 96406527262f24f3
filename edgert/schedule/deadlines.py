"""When the time of each of many requests is up."""

from __future__ import annotations

import heapq

from edgert.schedule.queued import Queued

SPARE = 64  # deadlines of requests that have gone, kept until they are more than those that wait


class Deadlines:
    """A heap by time. A request that has gone leaves its deadline behind, but not itself."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int]] = []  # deadline, number
        self._waiting: dict[int, Queued] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, queued: Queued, deadline_ns: int) -> None:
        """Remember a request by its number."""
        self._waiting[queued.number] = queued
        heapq.heappush(self._heap, (deadline_ns, queued.number))
        if len(self._heap) > 2 * len(self._waiting) + SPARE:
            self._heap = [entry for entry in self._heap if entry[1] in self._waiting]
            heapq.heapify(self._heap)

    def discard(self, queued: Queued) -> None:
        """Forget a request, if it has a deadline at all."""
        self._waiting.pop(queued.number, None)

    def next_ns(self) -> int | None:
        """Return the earliest deadline."""
        while self._heap and self._heap[0][1] not in self._waiting:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now_ns: int) -> list[Queued]:
        """Forget and return the requests whose time is up, in that order."""
        late = []
        while self._heap and self._heap[0][0] <= now_ns:
            _, number = heapq.heappop(self._heap)
            if (queued := self._waiting.pop(number, None)) is not None:
                late.append(queued)
        return late
