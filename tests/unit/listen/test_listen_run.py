"""The loop: what arrives is counted and shown until it is enough."""

from __future__ import annotations

import io

import pytest

from edgert.listen.command import EXAMPLES
from edgert.listen.counts import Instant
from edgert.listen.run import Bounds, follow
from edgert.listen.watch import Watch
from edgert.publish.session import Received
from tests.fakes.clock import FakeClock
from tests.unit.listen.heard import message


class FakeLink:
    """Hands out one batch at a time; each takes its whole time. Then it asks for the end."""

    def __init__(self, clock, stop, batches):
        self._clock = clock
        self._stop = stop
        self._batches = [*batches]
        self.waited_s = []

    def pump(self, wake, timeout_s):
        assert wake == self._stop.fileno()
        self.waited_s.append(timeout_s)
        self._clock.advance(int(timeout_s * 1e9))
        if not self._batches:
            self._stop.was_asked = True
            return []
        return self._batches.pop(0)


class FakeStop:
    was_asked = False

    def is_asked(self):
        return self.was_asked

    def fileno(self):
        return 99


class FakeDisplay:
    def __init__(self):
        self.heard_seqs = []
        self.ticks = 0

    def heard(self, received, event, now):
        self.heard_seqs.append(event.kind)

    def tick(self, watch, now):
        self.ticks += 1


@pytest.fixture
def run():
    """Return a function that follows some batches; it returns watch, display and link."""

    def run(batches, bounds=Bounds()):  # noqa: B008 - it cannot change
        clock, stop, display, watch = FakeClock(), FakeStop(), FakeDisplay(), Watch("edgert")
        link = FakeLink(clock, stop, batches)
        follow(link, watch, display, io.StringIO(), stop, bounds, lambda: Instant(clock(), clock()))
        return watch, display, link

    return run


def test_it_goes_on_until_it_is_asked(run):
    watch, display, link = run([[message(0), message(1)], [], [message(2)]])
    assert watch.result_count == 3
    assert display.heard_seqs == ["result"] * 3
    assert display.ticks == len(link.waited_s) == 4


def test_it_ends_with_the_result_that_was_asked_for(run):
    watch, display, _ = run([[message(n) for n in range(5)], [message(6)]], Bounds(count=3))
    assert watch.result_count == 3
    assert len(display.heard_seqs) == 3
    assert display.ticks == 1


def test_states_are_no_results(run):
    states = [Received("edgert/n/state", b"ready")] * 5
    watch, display, _ = run([states, [message(0)], [message(1)]], Bounds(count=1))
    assert (watch.result_count, len(display.heard_seqs)) == (1, 6)


def test_it_ends_when_its_time_is_up(run):
    _, _, link = run([[]] * 100, Bounds(seconds=0.25))
    assert sum(link.waited_s) == pytest.approx(0.25)


def test_other_topics_are_not_shown(run):
    _, display, _ = run([[Received("edgert/n/stats", b"{}")]])
    assert display.heard_seqs == []


def test_the_columns_are_explained():
    assert all(word in EXAMPLES for word in ("miss(ing)", "dup(licate)", "late", "hist(orical)"))
