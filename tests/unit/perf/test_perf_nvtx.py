"""Ranges for the profiler."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType

import pytest

from edgert.errors import ConfigError
from edgert.perf.drive import Drive
from edgert.perf.load import ClosedLoad
from edgert.perf.nvtx import RangedLane, no_ranges, open_ranges
from edgert.perf.options import Window
from tests.unit.perf.paced import MS, PacedLane, make_clock, open_rig


@pytest.fixture
def ranges(monkeypatch):
    """Return what a stub of the package nvtx was told."""
    told = []

    @contextmanager
    def annotate(message, *, domain):
        told.append(f"{domain}: {message}")
        yield
        told.append(f"end of {message}")

    module = ModuleType("nvtx")
    module.annotate = annotate
    monkeypatch.setitem(sys.modules, "nvtx", module)
    return told


def test_without_the_package_it_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvtx", None)
    with pytest.raises(ConfigError, match=r"--nvtx needs the package nvtx.*pip install nvtx"):
        open_ranges()


def test_submits_and_fills_are_ranges(ranges):
    clock = make_clock()
    lane = PacedLane(clock, 10 * MS)
    ranged = RangedLane(lane, open_ranges(), "lane 0")
    driven = Drive(open_rig(clock, ranged), ClosedLoad(1), clock=clock).run(Window(0, 15 * MS, 1))
    assert len(driven.samples) == 2
    assert ranges[:4] == [
        "edgert: lane 0 submit",
        "end of lane 0 submit",
        "edgert: lane 0 fill",  # this lane fills when its batch begins
        "end of lane 0 fill",
    ]
    ranged.close()
    assert lane.acquire() is None


def test_a_range_that_nobody_sees():
    with no_ranges("anything"):
        pass
