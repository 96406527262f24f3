"""What a budget knows of who holds memory, as one tree: answered over HTTP, printed by `edgert inspect`."""

from __future__ import annotations

import time

import msgspec

from edgert.device.memory import AllocationEvent, Budget, Usage

TOLD_EVENTS = 256


class AllocationReport(msgspec.Struct, frozen=True):
    """A budget at one moment. Owners that hold nothing any more stay in it, for their peak."""

    mono_ns: int  # when it was taken, on the clock of the events
    used_bytes: int
    peak_bytes: int
    limit_bytes: int  # 0: none is set
    owners: dict[str, Usage]
    events: list[AllocationEvent]  # the newest allocations and, with negative bytes, releases; oldest first


def report_allocations(budget: Budget, newest: int = TOLD_EVENTS) -> AllocationReport:
    """Return what is held, by whom, and the `newest` events at most. Any thread."""
    events = budget.events()
    return AllocationReport(
        time.monotonic_ns(),
        budget.used_bytes,
        budget.peak_bytes,
        budget.limit_bytes,
        budget.by_owner(),
        events[max(0, len(events) - newest) :],
    )
