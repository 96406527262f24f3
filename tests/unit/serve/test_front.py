"""The thread that the fronts run on, and how others reach it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edgert.errors import ConfigError
from edgert.serve.front import Front
from edgert.serve.gate import Gate
from edgert.serve.mailbox import Mailbox
from edgert.stats import Tally


class FakeFront:
    name = "fake"

    def __init__(self, address="here", failure=None):
        self.counts = Tally()
        self.calls = []
        self.address = address
        self.failure = failure

    async def start(self):
        self.calls.append(("start", threading.current_thread().name))
        if self.failure:
            raise self.failure
        return self.address

    async def stop(self, timeout_s):
        self.calls.append(("stop", timeout_s))


def test_fronts_start_and_stop_on_one_thread():
    fronts = [FakeFront("a"), FakeFront("b")]
    front = Front(lambda: fronts)
    assert front.open() == ["a", "b"]
    front.close(3.0)
    for one in fronts:
        assert one.calls == [("start", "front"), ("stop", 3.0)]
    front.close()


def test_what_was_refused_is_told_as_long_as_it_listens():
    one = FakeFront()
    front = Front(lambda: [one])
    assert front.refused() == {}
    front.open()
    one.counts.add("late", 2)
    assert front.refused() == {"fake": {"late": 2}}
    front.close()


def test_a_front_that_cannot_start_stops_those_before_it():
    fronts = [FakeFront(), FakeFront(failure=ConfigError("taken")), FakeFront()]
    front = Front(lambda: fronts)
    with pytest.raises(ConfigError, match="taken"):
        front.open()
    assert [call for call, _ in fronts[0].calls] == ["start", "stop"]
    assert fronts[2].calls == []


def test_a_front_that_was_not_opened_may_be_closed():
    Front(list).close()


class FakeLoop:
    def __init__(self):
        self.calls = []

    def call_soon_threadsafe(self, call):
        self.calls.append(call)


def test_many_letters_wake_the_loop_once_and_come_in_order():
    loop, got = FakeLoop(), []
    mailbox = Mailbox(loop)
    for index in range(5):
        mailbox.post(got.append, index)
    assert len(loop.calls) == 1
    mailbox.post(mailbox.post, got.append, "late")
    loop.calls.pop()()
    assert got == [0, 1, 2, 3, 4, "late"]
    mailbox.post(got.append, "again")
    while loop.calls:
        loop.calls.pop()()
    assert got[-1] == "again"


def test_letters_from_many_threads_all_arrive():
    async def collect():
        got, all_here = [], asyncio.Event()
        mailbox = Mailbox(asyncio.get_running_loop())

        def take(item):
            got.append(item)
            if len(got) == 4000:
                all_here.set()

        threads = [
            threading.Thread(target=lambda: [mailbox.post(take, index) for index in range(1000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        await asyncio.wait_for(all_here.wait(), 10)
        for thread in threads:
            thread.join()
        return got

    assert sorted(asyncio.run(collect())) == sorted(list(range(1000)) * 4)


def test_a_call_on_the_loops_own_thread_is_made_at_once():
    loop, got = FakeLoop(), []
    mailbox = Mailbox(loop)
    mailbox.hand_over(got.append, 1)
    assert (got, loop.calls) == ([1], [])


def test_a_call_does_not_overtake_a_letter():
    loop, got = FakeLoop(), []
    mailbox = Mailbox(loop)
    mailbox.post(got.append, 1)
    mailbox.hand_over(got.append, 2)
    assert got == []
    loop.calls.pop()()
    assert got == [1, 2]


def test_a_call_of_another_thread_is_a_letter():
    loop, got = FakeLoop(), []
    mailbox = Mailbox(loop)
    other = threading.Thread(target=mailbox.hand_over, args=[got.append, 1])
    other.start()
    other.join()
    assert got == []
    loop.calls.pop()()
    assert got == [1]


def test_a_letter_after_the_loop_has_ended_is_forgotten():
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    mailbox.post(pytest.fail, "delivered")


def test_the_gate_lets_so_many_in():
    gate = Gate(2)
    assert [gate.enter(), gate.enter(), gate.enter()] == [True, True, False]
    gate.leave()
    assert gate.enter()
