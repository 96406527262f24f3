"""Whose scheduler is woken for a request, where several devices take from one queue."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from edgert.inference.limits import Limits
from edgert.inference.served_lanes import ServedLanes
from edgert.models.model_config import InstanceGroup, ModelConfig, RateLimit
from edgert.pipeline.instance_groups import LanePlace
from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.rate_limiter import RateLimiter
from edgert.schedule.request_queue import RequestQueue


class Part:
    """The lanes of one device, whose scheduler the test lets sleep; `views` has what they take from."""

    def __init__(self, name, woken, *numbers, is_idle=True):
        self.numbers = numbers
        self.views = []
        self.site = SimpleNamespace(scheduler=SimpleNamespace(is_idle=is_idle))
        self._name = name
        self._woken = woken

    @property
    def is_awaited(self):
        return any(view.is_awaited for view in self.views)

    def look(self):
        self._woken.append(self._name)

    def add_port(self, feed, index, view, numbers):
        self.views.append(view)

    def begin(self):
        pass


class Site:
    """Lanes on GPU 0 and 1, begun; `woken` has whose scheduler was woken."""

    def __init__(self, *, idle=(True, True), queues=1, limits=None):
        self.woken = []
        self.parts = [
            Part(name, self.woken, number, is_idle=is_idle)
            for number, (name, is_idle) in enumerate(zip("ab", idle, strict=True))
        ]
        self.lanes = ServedLanes(self.parts)
        self.feed = SimpleNamespace(queues=[make_queue() for _ in range(queues)], waiting=1)
        self.lanes.begin(self.feed, limits)

    def awaited(self, *are_awaited):
        for part, is_awaited in zip(self.parts, are_awaited, strict=True):
            part.views[0].is_awaited = is_awaited
        self.woken.clear()

    def look(self):
        self.woken.clear()
        self.lanes.look()
        return "".join(self.woken)


def make_queue():
    return RequestQueue(BatchPolicy(1), lambda queued, error: None)


def make_limits():
    config = ModelConfig(instance_groups=(InstanceGroup(gpus=(0, 1), rate_limit=RateLimit()),))
    places = (LanePlace(0, 0), LanePlace(0, 1))
    return Limits(RateLimiter(lambda: None), "m", config, places, [lambda: None, lambda: None])


@pytest.mark.parametrize(
    ("idle", "awaited", "woken"),
    [
        ((True, True), (True, True), "a"),
        ((False, True), (True, True), "b"),
        ((True, True), (False, True), "b"),
        ((False, False), (True, True), "ab"),
        ((False, False), (True, False), "a"),
        ((True, True), (False, False), ""),
    ],
)
def test_one_that_sleeps_is_woken_else_all_that_may_take(idle, awaited, woken):
    site = Site(idle=idle)
    site.awaited(*awaited)
    assert site.look() == woken


def test_all_that_may_take_are_woken_where_one_may_be_refused_or_has_a_queue_of_its_own():
    assert Site(limits=make_limits()).look() == "ab"
    assert Site(queues=2).look() == "ab"


@pytest.mark.parametrize(("waiting", "woken"), [(1, ["b"]), (0, [])])
def test_what_one_leaves_that_takes_no_more_is_for_another(waiting, woken):
    site = Site()
    site.feed.waiting = waiting
    site.parts[0].views[0].is_awaited = False
    assert site.woken == woken


def test_a_single_device_is_woken_itself():
    woken = []
    part = Part("a", woken, 0)
    lanes = ServedLanes([part])
    feed = SimpleNamespace(queues=[make_queue()], waiting=0)
    lanes.begin(feed)
    assert part.views == feed.queues
    lanes.look()
    assert woken == ["a"]
