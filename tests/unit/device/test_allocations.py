"""What a budget tells of who holds memory."""

from __future__ import annotations

import time

import msgspec

from edgert.device.allocations import TOLD_EVENTS, AllocationReport, report_allocations
from edgert.device.host import HostDriver
from edgert.device.memory import Budget, MemoryKind, Usage


def test_every_owner_is_told_also_one_that_holds_nothing_any_more():
    budget = Budget(10_000)
    driver = HostDriver(budget)
    slots = driver.allocate(3000, MemoryKind.MAPPED, "source door")
    driver.allocate(2000, MemoryKind.DEVICE, "model coco").free()
    before = time.monotonic_ns()
    report = report_allocations(budget)
    slots.free()
    assert (report.used_bytes, report.peak_bytes, report.limit_bytes) == (3000, 5000, 10_000)
    assert report.owners == {"source door": Usage(3000, 3000, 1), "model coco": Usage(0, 2000, 0)}
    assert [(event.owner, event.kind, event.size_bytes) for event in report.events] == [
        ("source door", "mapped", 3000),
        ("model coco", "device", 2000),
        ("model coco", "device", -2000),
    ]
    assert all(event.mono_ns <= before <= report.mono_ns for event in report.events)


def test_only_the_newest_events_are_told():
    budget = Budget()
    for size in range(1, TOLD_EVENTS + 11):
        budget.take(size)
    sizes = [event.size_bytes for event in report_allocations(budget).events]
    assert sizes == list(range(11, TOLD_EVENTS + 11))
    assert [event.size_bytes for event in report_allocations(budget, newest=2).events] == sizes[-2:]
    assert report_allocations(budget, newest=0).events == []


def test_it_survives_json():
    budget = Budget()
    budget.take(5, "source door", "pinned")
    report = report_allocations(budget)
    assert msgspec.json.decode(msgspec.json.encode(report), type=AllocationReport) == report
