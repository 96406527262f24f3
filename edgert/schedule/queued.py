"""A request that waits for a lane, and how long and how many may."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal

import msgspec

from edgert.errors import CancelledError, EdgertError


class Queued(msgspec.Struct, eq=False):
    """A request in a queue. `number` and `rank` are the queue's."""

    request: Any  # an InferRequest, or what else has `is_cancelled`
    rows: int = 1  # what it adds to a batch
    key: Hashable = None  # requests with different keys never share a batch
    priority: int = 0  # 1 is the highest; 0: the default level
    timeout_ns: int = 0  # that its sender wishes; 0: its level's
    arrived_ns: int = 0  # at the server
    since_ns: int = 0  # in the queue
    number: int = 0  # in order of coming
    rank: int = 0  # the line it stands in; lower goes first


class QueueLimits(msgspec.Struct, frozen=True):
    """The queue policy of one priority level, as config.pbtxt says it."""

    max_size: int = 0  # requests; 0: any number
    timeout_ns: int = 0  # 0: never
    on_timeout: Literal["reject", "delay"] = "reject"  # delay: until no other of its level waits
    allows_override: bool = False  # a request may wish a shorter timeout

    def timeout_of(self, wish_ns: int) -> int:
        """Return the timeout of a request that wishes `wish_ns`; 0: none."""
        if not wish_ns or not self.allows_override:
            return self.timeout_ns
        return min(wish_ns, self.timeout_ns) if self.timeout_ns else wish_ns


OnDrop = Callable[[Queued, EdgertError], None]
Dropped = list[tuple[Queued, EdgertError]]

STOPPED_TEXT = "Server is stopping, scheduler for model has stopped accepting new inference requests"


def cancelled() -> CancelledError:
    """Return what a request is answered whose sender no longer waits."""
    return CancelledError("Request cancelled")
