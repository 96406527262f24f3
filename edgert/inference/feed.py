"""Where the requests of a model wait, and what a batch of them is: one queue, or sequences on their lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from edgert.errors import EdgertError
from edgert.execute.engine import Completed
from edgert.inference.answers import Answers
from edgert.inference.fill import Part
from edgert.schedule.queued import Queued
from edgert.schedule.request_queue import RequestQueue
from edgert.schedule.scheduler import BatchQueue


class Feed(Protocol):
    """The requests of one served version."""

    @property
    def queues(self) -> Sequence[BatchQueue]:
        """One for all lanes, or one for each."""

    @property
    def is_awaited(self) -> bool:
        """Whoever offers a request has to let the scheduler look."""

    @property
    def waiting(self) -> int:
        """Requests that wait."""

    @property
    def ready(self) -> int:
        """Requests that wait for nothing but a lane."""

    @property
    def sequences(self) -> int:
        """Sequences under way."""

    def offer(self, queued: Queued, now_ns: int) -> None:
        """Let a request wait. Raises RequestError."""

    def parts(self, batch: Sequence[Any]) -> list[Part]:
        """Return what goes into the lane's inputs. On the lane's thread."""

    def done(self, index: int, batch: Sequence[Any], completed: Completed) -> None:
        """Answer a batch that has left a lane of queue `index`."""

    def close(self) -> None:
        """Take no more requests; those that wait go at once."""

    def drop_all(self, error: EdgertError) -> None:
        """Answer those that wait with an error."""


class QueueFeed:
    """Requests that have nothing to do with each other."""

    sequences = 0

    def __init__(self, queue: RequestQueue, answers: Answers) -> None:
        self.queues = (queue,)
        self._queue = queue
        self._answers = answers

    @property
    def is_awaited(self) -> bool:
        """A lane would take a request now."""
        return self._queue.is_awaited

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.waiting

    @property
    def ready(self) -> int:
        """Requests that wait."""
        return self._queue.waiting

    def offer(self, queued: Queued, now_ns: int) -> None:
        """Let a request wait. Raises UnavailableError."""
        self._queue.offer(queued, now_ns)

    def parts(self, batch: Sequence[Queued]) -> list[Part]:
        """Return the requests' own inputs."""
        return [
            Part(queued.request.inputs, queued.rows, queued.request, self._answers.part_sender(queued))
            for queued in batch
        ]

    def done(self, index: int, batch: Sequence[Queued], completed: Completed) -> None:
        """Answer every request, one behind the other."""
        self._answers.give(batch, completed)

    def close(self) -> None:
        """Take no more requests."""
        self._queue.close()

    def drop_all(self, error: EdgertError) -> None:
        """Answer those that wait with an error."""
        self._queue.drop_all(error)
