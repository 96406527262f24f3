"""The bounded hand-off between threads."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgert.errors import ClosedError
from edgert.frames.channel import Channel


def test_items_come_out_in_the_order_they_went_in():
    channel = Channel(8)
    for item in range(3):
        channel.put(item)
    assert channel.take_all() == [0, 1, 2]
    assert channel.take_all(timeout_s=0.0) == []


def test_a_full_channel_drops_the_oldest_and_says_which():
    dropped = []
    channel = Channel(2, dropped.append)
    for item in range(5):
        channel.put(item)
    assert dropped == [0, 1, 2]
    assert channel.take_all() == [3, 4]
    assert channel.statistics().dropped == 3


def test_statistics_keep_the_peak():
    channel = Channel(8)
    for item in range(3):
        channel.put(item)
    channel.take_all()
    statistics = channel.statistics()
    assert (statistics.used, statistics.peak_used, statistics.capacity) == (0, 3, 8)


def test_what_is_put_back_comes_first():
    channel = Channel(8)
    channel.put("new")
    channel.put_back(["old", "older than new"])
    assert channel.take_all() == ["old", "older than new", "new"]


def test_what_does_not_fit_back_is_dropped_oldest_first():
    dropped = []
    channel = Channel(3, dropped.append)
    for item in (3, 4):
        channel.put(item)
    channel.put_back([0, 1, 2])
    assert dropped == [0, 1]
    assert channel.take_all() == [2, 3, 4]


def test_a_full_channel_takes_nothing_back():
    dropped = []
    channel = Channel(1, dropped.append)
    channel.put("new")
    channel.put_back(["old"])
    assert dropped == ["old"]
    assert channel.take_all() == ["new"]


def test_take_nowait_takes_the_oldest_or_nothing():
    channel = Channel(4)
    assert channel.take_nowait() is None
    channel.put(1)
    channel.put(2)
    assert channel.take_nowait() == 1
    assert channel.take_all() == [2]


def test_a_closed_channel_refuses_and_can_still_be_emptied():
    channel = Channel(4)
    channel.put(1)
    channel.close()
    with pytest.raises(ClosedError):
        channel.put(2)
    assert not channel.is_finished
    assert channel.take_all() == [1]
    assert channel.is_finished
    assert channel.take_all() == []  # and does not wait


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_channel_without_room_is_refused(capacity):
    with pytest.raises(ValueError, match="room for one item"):
        Channel(capacity)


@pytest.mark.parametrize(
    ("act", "expected"), [(lambda c: c.put(7), [7]), (Channel.close, [])], ids=["put", "close"]
)
def test_a_waiting_taker_is_woken_by(act, expected):
    channel = Channel(4)
    taken = []
    taker = threading.Thread(target=lambda: taken.append(channel.take_all(timeout_s=30.0)))
    taker.start()
    act(channel)
    taker.join(10.0)
    assert taken == [expected]


def test_a_drop_may_use_the_channel_itself():
    """`on_drop` is called without the lock."""
    seen = []
    channel = Channel(1, lambda item: seen.append((item, channel.statistics().used)))
    channel.put(1)
    channel.put(2)
    assert seen == [(1, 1)]


def test_many_threads_lose_nothing_uncounted():
    dropped = []
    channel = Channel(16, dropped.append)
    putters = [threading.Thread(target=lambda: [channel.put(item) for item in range(500)]) for _ in range(4)]
    taken = []
    for putter in putters:
        putter.start()
    while any(putter.is_alive() for putter in putters):
        taken += channel.take_all(timeout_s=0.01)
    taken += channel.take_all(timeout_s=0.0)
    assert len(taken) + len(dropped) == 2000
    assert channel.statistics().dropped == len(dropped)


class ChannelMachine(RuleBasedStateMachine):
    """A channel against a plain deque."""

    @initialize(capacity=st.integers(1, 4))
    def build(self, capacity):
        self.capacity = capacity
        self.dropped = []
        self.expected_dropped = []
        self.expected = deque()
        self.taken = []
        self.next = 0
        self.is_closed = False
        self.channel = Channel(capacity, self.dropped.append)

    @rule()
    def put(self):
        item, self.next = self.next, self.next + 1
        if self.is_closed:
            with pytest.raises(ClosedError):
                self.channel.put(item)
            return
        self.channel.put(item)
        self.expected.append(item)
        if len(self.expected) > self.capacity:
            self.expected_dropped.append(self.expected.popleft())

    @rule()
    def take_all(self):
        self.taken = self.channel.take_all(timeout_s=0.0)
        assert self.taken == list(self.expected)
        self.expected.clear()

    @rule()
    def take_one(self):
        assert self.channel.take_nowait() == (self.expected.popleft() if self.expected else None)

    @precondition(lambda self: self.taken)
    @rule(count=st.integers(1, 4))
    def put_back(self, count):
        back, self.taken = self.taken[-count:], []
        self.channel.put_back(back)
        self.expected.extendleft(reversed(back))
        while len(self.expected) > self.capacity:
            self.expected_dropped.append(self.expected.popleft())

    @rule()
    def close(self):
        self.channel.close()
        self.is_closed = True

    @invariant()
    def agrees(self):
        statistics = self.channel.statistics()
        assert self.dropped == self.expected_dropped
        assert (statistics.used, statistics.dropped) == (len(self.expected), len(self.dropped))
        assert statistics.peak_used <= self.capacity
        assert self.channel.is_finished == (self.is_closed and not self.expected)


TestChannelAgainstDeque = ChannelMachine.TestCase
