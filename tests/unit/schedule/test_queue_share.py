"""One queue, several schedulers that take from it."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from edgert.schedule.batcher import BatchPolicy
from edgert.schedule.limited_queue import limited_shares
from edgert.schedule.queue_share import share_queue
from edgert.schedule.rate_limiter import RateLimiter
from edgert.schedule.request_queue import RequestQueue
from tests.fakes.requests import make_group, make_queued

TAKERS = 4
SENDERS = 4
STEPS = 500
TIMEOUT_S = 20.0


def nothing():
    """Wake nobody: the test wakes all."""


def make_queue(**policy):
    return RequestQueue(BatchPolicy(**policy), lambda queued, error: pytest.fail(str(error)))


def test_a_single_scheduler_sees_the_queue_itself():
    queue = make_queue(max_batch=1)
    assert share_queue(queue, 1, nothing) == (queue,)


def test_a_queue_is_awaited_while_any_share_is():
    queue = make_queue(max_batch=1)
    first, second = share_queue(queue, 2, nothing)
    first.is_awaited = False
    assert queue.is_awaited
    second.is_awaited = False
    assert not queue.is_awaited
    first.is_awaited = True
    assert (queue.is_awaited, second.is_awaited) == (True, False)


def test_one_that_takes_no_more_says_so_once_that_is_known():
    queue = make_queue(max_batch=1)
    told = []
    first, second = share_queue(queue, 2, lambda: told.append((first.is_awaited, second.is_awaited)))
    first.is_awaited = False
    first.is_awaited = False
    assert told == [(False, True)]
    first.is_awaited = True
    second.is_awaited = False
    assert told[1:] == [(True, False)]


def test_a_batch_is_taken_once():
    queue = make_queue(max_batch=2)
    first, second = share_queue(queue, 2, nothing)
    for name in "ab":
        queue.offer(make_queued(name), 0)
    assert first.is_due(0)
    assert second.is_due(0)
    assert [queued.request.name for queued in first.take(0)] == ["a", "b"]
    assert (second.take(0), second.is_due(0), second.due_ns(0)) == ([], False, None)


class Takers:
    """Threads that take as schedulers do: each sleeps while its share has nothing, and says so before."""

    def __init__(self, queue):
        self._queue = queue
        self._shares = share_queue(queue, TAKERS, nothing)
        self._wakes = [threading.Event() for _ in self._shares]
        self._is_over = False
        self.taken = [Counter() for _ in self._shares]
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(TAKERS)]
        for thread in self._threads:
            thread.start()

    def offer(self, name):
        self._queue.offer(make_queued(name), 0)
        if self._queue.is_awaited:
            for share, wake in zip(self._shares, self._wakes, strict=True):
                if share.is_awaited:
                    wake.set()

    def stop(self):
        self._is_over = True
        for wake in self._wakes:
            wake.set()
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()

    def _run(self, number):
        share, wake = self._shares[number], self._wakes[number]
        while not self._is_over:
            wake.clear()
            share.is_awaited = True
            while batch := share.take(0):
                share.is_awaited = False
                self.taken[number].update(queued.request.name for queued in batch)
                share.is_awaited = True
            assert wake.wait(TIMEOUT_S)


def test_what_many_offer_is_taken_wholly_and_nothing_twice():
    queue = make_queue(max_batch=4)
    takers = Takers(queue)
    senders = [
        threading.Thread(target=lambda own: [takers.offer((own, step)) for step in range(STEPS)], args=(own,))
        for own in range(SENDERS)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while queue.waiting and time.monotonic() < deadline:
        time.sleep(0.001)
    takers.stop()
    taken = sum(takers.taken, Counter())
    assert (queue.waiting, len(taken), set(taken.values())) == (0, SENDERS * STEPS, {1})


class Limited:
    """A queue shared by two schedulers, whose groups need one of a resource; `woken` has who was woken."""

    def __init__(self, *, shared=()):
        self.woken = []
        self.limiter = RateLimiter(lambda: self.woken.append("nobody"))
        self.groups = [
            make_group(name, device=device, shared=shared, r=1) for device, name in enumerate("ab")
        ]
        for group in self.groups:
            group.on_freed = self._waker(group.name)
            self.limiter.add(group)
        self.queue = make_queue(max_batch=1)
        shares = share_queue(self.queue, 2, nothing)
        [self.first], [self.second] = limited_shares(shares, self.limiter, [[own] for own in self.groups])

    def offer(self, *names):
        for name in names:
            self.queue.offer(make_queued(name), 0)

    def _waker(self, name):
        return lambda: self.woken.append(name)


def test_each_device_has_a_resource_for_itself():
    desk = Limited()
    desk.offer("1", "2")
    assert len(desk.first.take(0)) == len(desk.second.take(0)) == 1


def test_a_global_resource_is_one_for_all_devices_and_wakes_the_one_that_waits():
    desk = Limited(shared=("r",))
    desk.offer("1", "2")
    assert len(desk.first.take(0)) == 1
    assert desk.second.take(0) == []
    desk.first.done()
    assert desk.woken == ["b"]
    assert len(desk.second.take(0)) == 1


def test_a_group_whose_batch_another_device_took_is_woken_and_lets_others_have_the_resource():
    desk = Limited(shared=("r",))
    holder = make_group("holder", r=1, shared=("r",))
    desk.limiter.add(holder)
    desk.offer("1")
    assert desk.limiter.try_acquire(holder)
    assert not desk.first.is_due(0)
    assert not desk.second.is_due(0)
    desk.limiter.release(holder)
    desk.woken.clear()
    assert len(desk.first.take(0)) == 1
    assert desk.woken == ["b"]
    assert not desk.second.is_due(0)
    assert not desk.groups[1].waits_since


def test_a_group_that_is_refused_after_its_batch_went_elsewhere_does_not_wait():
    desk = Limited(shared=("r",))
    desk.offer("1")
    assert len(desk.first.take(0)) == 1
    assert desk.second.take(0) == []
    assert not desk.groups[1].waits_since
