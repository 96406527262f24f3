"""A node that is not there: who is, is said once."""

from __future__ import annotations

import pytest

from edgert.listen.roll_call import ANSWERS_S, MOST_TOLD, PATIENCE_S, RollCall
from edgert.publish.session import Received
from tests.fakes.clock import FakeClock
from tests.unit.listen.heard import retained

BIRTHS = "edgert/+/birth"


class FakeLink:
    """A link whose messages the test puts in."""

    def __init__(self):
        self.waiting = []
        self.filters = []
        self.added = 0

    def pump(self, wake, timeout_s):
        received, self.waiting = self.waiting, []
        return received

    def add_filter(self, topic_filter):
        self.added += 1
        self.filters.append(topic_filter)

    def remove_filter(self, topic_filter):
        self.filters.remove(topic_filter)


class Call:
    """A roll call for node `n`."""

    def __init__(self):
        self.link = FakeLink()
        self.told = []
        self.clock = FakeClock()
        self.roll_call = RollCall(self.link, "edgert", "n", self.told.append, self.clock)

    def pump(self, *messages, after_s=0.0):
        self.link.waiting = [*messages]
        self.clock.advance(int(after_s * 1e9))
        return self.roll_call.pump(-1, 0.1)


@pytest.fixture
def call():
    return Call()


def birth(node):
    return retained(f"edgert/{node}/birth", b"{}")


def test_a_node_that_is_heard_in_time_is_all_that_matters(call):
    state = retained("edgert/n/state", b"lost")
    assert call.pump(state, after_s=PATIENCE_S / 2) == [state]
    assert call.pump(after_s=10 * PATIENCE_S) == []
    assert (call.told, call.link.added) == ([], 0)


def test_a_silent_node_makes_the_others_be_asked_for_and_told_once(call):
    call.pump(after_s=PATIENCE_S)
    assert call.link.filters == [BIRTHS]
    assert call.pump(birth("porch"), birth("d\x1boor"), retained("edgert/gone/birth", b"")) == []
    assert call.told == []
    call.pump(after_s=ANSWERS_S)
    call.pump(after_s=10 * PATIENCE_S)
    assert call.told == ["nothing is heard of node 'n' below edgert/; nodes seen there: d\ufffdoor, porch"]
    assert (call.link.filters, call.link.added) == ([], 1)


def test_if_there_is_none_at_all_that_is_told(call):
    call.pump(after_s=PATIENCE_S)
    call.pump(after_s=ANSWERS_S)
    assert [text.partition("; ")[2] for text in call.told] == [
        "no other node was seen there either; is it another broker, or another --root?"
    ]


def test_of_many_some_are_named(call):
    call.pump(after_s=PATIENCE_S)
    call.pump(*[birth(f"node{number:02}") for number in range(MOST_TOLD + 3)])
    call.pump(after_s=ANSWERS_S)
    assert call.told[0].endswith("node08, node09 and 3 more")


def test_a_node_that_comes_while_others_are_asked_for_is_not_told_to_be_absent(call):
    call.pump(after_s=PATIENCE_S)
    assert call.pump(birth("porch"), birth("n")) == [birth("n")]
    call.pump(after_s=ANSWERS_S)
    assert (call.told, call.link.filters) == ([], [])


def test_a_node_whose_name_only_begins_so_is_another(call):
    assert call.pump(Received("edgert/nn/birth", b"{}")) == []
    call.pump(after_s=PATIENCE_S)
    call.pump(after_s=ANSWERS_S)
    assert call.told[0].endswith("nodes seen there: nn")
