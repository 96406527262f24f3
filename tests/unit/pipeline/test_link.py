"""One source feeding one model: counts, answers, and routes that follow the model."""

from __future__ import annotations

import pytest

from edgert.errors import EdgertError, FrameError
from edgert.pipeline.link import Link
from edgert.schedule.batcher import Batcher, BatchPolicy
from tests.fakes.frames import make_frame
from tests.fakes.source import FakeReply


class Loaded:
    """What a link sees of a loaded model."""

    def __init__(self):
        self.dropped = []
        self.batcher = Batcher(
            BatchPolicy(4), lambda route, frame, reason: self.dropped.append((frame.seq, reason))
        )


@pytest.fixture
def link():
    return Link("door", "coco", priority=2, keeps_newest_only=False, max_age_ns=7)


def test_frames_wait_on_a_route_with_the_settings_of_the_source(link):
    loaded = Loaded()
    assert link.offer(make_frame(), loaded, 0)
    [(route, _)] = loaded.batcher.take(0)
    assert (route.source, route.model, route.priority, route.max_age_ns) == ("door", "coco", 2, 7)
    assert route.keeps_newest_only is False


def test_route_follows_the_model_from_version_to_version(link):
    old, new = Loaded(), Loaded()
    for seq, loaded in enumerate((old, old, new, new)):
        assert link.offer(make_frame(seq=seq), loaded, 0)
    assert [frame.seq for _, frame in old.batcher.take(0)] == [0, 1]
    assert [frame.seq for _, frame in new.batcher.take(0)] == [2, 3]


def test_model_that_takes_no_more_refuses(link):
    loaded = Loaded()
    loaded.batcher.close()
    assert not link.offer(make_frame(), loaded, 0)


def test_oldest_frame_is_dropped_for_its_slot(link):
    assert not link.drop_oldest(0)
    loaded = Loaded()
    for seq in range(2):
        link.offer(make_frame(seq=seq), loaded, 0)
    assert link.drop_oldest(0)
    assert loaded.dropped == [(0, "no_slot")]


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("superseded", "busy_error"),
        ("stale", "busy_error"),
        ("no_slot", "busy_error"),
        ("draining", "closed_error"),
        ("unloaded", "model_error"),
        ("no_model", "model_error"),
    ],
)
def test_every_reason_is_counted_and_told_to_who_waits(link, reason, status):
    reply = FakeReply()
    link.drop(make_frame(reply=reply), reason)
    link.drop(make_frame(), reason)
    [error] = reply.refused
    assert isinstance(error, EdgertError)
    assert (error.status, str(error) != "") == (status, True)
    assert link.statistics().dropped == {reason: 2}


def test_error_of_a_frame_is_told_as_it_is(link):
    reply, error = FakeReply(), FrameError("too large")
    link.drop(make_frame(reply=reply), error.status, error)
    assert reply.refused == [error]
    assert link.statistics().dropped == {"frame_error": 1}
