from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgert.errors import ConfigError
from edgert.schedule.rate_limiter import RateLimiter
from tests.fakes.requests import make_group


class Desk:
    """A limiter; `freed` counts the wakes."""

    def __init__(self, *groups, given=None):
        self.freed = 0
        self.limiter = RateLimiter(self._on_freed, given)
        for group in groups:
            self.limiter.add(group)

    def _on_freed(self):
        self.limiter.totals()
        self.freed += 1

    def acquire(self, *groups):
        return [self.limiter.try_acquire(group) for group in groups]


def test_there_is_as_much_of_a_resource_as_the_greediest_group_needs():
    desk = Desk(
        make_group("a", r1=4, r2=4), make_group("b", r2=5, r3=10, r4=5), make_group("c", r1=1, r3=7, r4=2)
    )
    assert desk.limiter.totals() == {("r1", 0): 4, ("r2", 0): 5, ("r3", 0): 10, ("r4", 0): 5}


def test_totals_that_are_given_go_first_a_devices_own_before_those_of_every_device():
    groups = [make_group(f"g{device}", device=device, shared=("r3",), r1=1, r2=1, r3=1) for device in (0, 1)]
    desk = Desk(*groups, given={("r1", None): 10, ("r2", 0): 5, ("r2", 1): 8, ("r3", None): 2})
    assert desk.limiter.totals() == {
        ("r1", 0): 10,
        ("r2", 0): 5,
        ("r3", None): 2,
        ("r1", 1): 10,
        ("r2", 1): 8,
    }


def test_totals_shrink_with_the_group_that_needed_most():
    small, large = make_group("small", r=1), make_group("large", r=4)
    desk = Desk(small, large)
    desk.limiter.remove(large)
    assert desk.limiter.totals() == {("r", 0): 1}


def test_fewer_than_a_group_needs_is_refused():
    with pytest.raises(ConfigError, match="large needs 4 of resource 'r', but only 3"):
        Desk(make_group("large", r=4), given={("r", None): 3})


def test_a_resource_is_global_or_a_devices_own_but_not_both():
    with pytest.raises(
        ConfigError, match="Resource 'r' of b is global in one model and by device in another"
    ):
        Desk(make_group("a", r=1, shared=("r",)), make_group("b", r=1))


def test_a_group_takes_all_that_it_needs_or_nothing():
    a, b, c = make_group("a", r1=2, r2=1), make_group("b", r1=2, r2=2), make_group("c", r2=1)
    desk = Desk(a, b, c)
    assert desk.acquire(a, b) == [True, False]
    desk.limiter.withdraw(b)
    assert desk.acquire(c) == [True]  # b holds nothing of r2


def test_devices_have_their_own_but_share_what_is_global():
    first, second = (make_group(f"g{device}", device=device, r=1) for device in (0, 1))
    assert Desk(first, second).acquire(first, second) == [True, True]
    first, second = (make_group(f"g{device}", device=device, r=1, shared=("r",)) for device in (0, 1))
    assert Desk(first, second).acquire(first, second) == [True, False]


def test_a_group_without_needs_is_never_limited():
    free, busy = make_group("free"), make_group("busy", r=1)
    desk = Desk(free, busy)
    assert desk.acquire(busy, busy, free, free) == [True, False, True, True]


def test_a_release_wakes_only_if_a_group_waits():
    a, b = make_group("a", r=1), make_group("b", r=1)
    desk = Desk(a, b)
    desk.acquire(a)
    desk.limiter.release(a)
    assert desk.freed == 0
    desk.acquire(a, b)
    desk.limiter.release(a)
    assert desk.freed == 1


def test_small_needs_do_not_starve_a_large_one():
    small, large = make_group("small", r=1), make_group("large", r=3)
    desk = Desk(small, large)
    assert desk.acquire(small, small, large) == [True, True, False]
    desk.limiter.release(small)
    assert desk.acquire(small) == [False]  # though two are free
    desk.limiter.release(small)
    assert desk.acquire(large) == [True]


def test_a_group_that_withdraws_lets_others_go_and_wakes_them():
    small, large = make_group("small", r=1), make_group("large", r=3)
    desk = Desk(small, large)
    desk.acquire(small, large, small)
    desk.limiter.withdraw(large)
    assert desk.freed == 1
    assert desk.acquire(small) == [True]


def test_asking_takes_nothing_but_makes_the_group_wait():
    a, b = make_group("a", r=1), make_group("b", r=1)
    desk = Desk(a, b)
    assert desk.limiter.may_acquire(b)
    assert desk.acquire(a) == [True]
    assert not desk.limiter.may_acquire(b)
    desk.limiter.release(a)
    assert (desk.freed, desk.acquire(a, b)) == (1, [False, True])


def rounds(desk, groups, count):
    """Let all groups contend for one batch at a time; return who ran, in turn."""
    ran = []
    for _ in range(count):
        winners = [group for group in groups if desk.limiter.may_acquire(group)]
        winner = winners[-1]  # whoever is asked first has no advantage
        assert desk.limiter.try_acquire(winner)
        for group in groups:
            desk.limiter.may_acquire(group)
        ran.append(winner.name)
        desk.limiter.release(winner)
    return ran


def test_priorities_divide_the_turns():
    groups = [make_group(str(priority), r=1, priority=priority) for priority in (1, 2, 4)]
    ran = Counter(rounds(Desk(*groups), groups, 700))
    assert [round(ran[name], -1) for name in "124"] == [400, 200, 100]


def test_a_group_that_did_not_contend_has_saved_no_turns():
    old, new = make_group("old", r=1), make_group("new", r=1)
    desk = Desk(old)
    rounds(desk, [old], 500)
    desk.limiter.add(new)
    assert Counter(rounds(desk, [old, new], 100)) == {"old": 50, "new": 50}


def test_turns_of_one_resource_say_nothing_of_another():
    a, b, other = make_group("a", r=1), make_group("b", r=1, priority=3), make_group("other", s=1)
    desk = Desk(a, b, other)
    ran = Counter()
    for _ in range(400):
        rounds(desk, [other], 5)
        ran.update(rounds(desk, [a, b], 1))
    assert 290 <= ran["a"] <= 310


class RateLimiterMachine(RuleBasedStateMachine):
    """No more is in use than there is, and with all batches done whoever waits first may run."""

    def __init__(self):
        super().__init__()
        self.limiter = RateLimiter(lambda: None, {("b", None): 5})
        self.groups = [
            make_group("one", a=1),
            make_group("two", a=2, b=1, priority=3),
            make_group("three", a=3, b=2, c=1, priority=2),
            make_group("four", b=4),
            make_group("five", device=1, a=2, c=2),
        ]
        for group in self.groups:
            self.limiter.add(group)
        self.running = []
        self.waiting = set()

    @rule(index=st.integers(0, 4))
    def acquire(self, index):
        group = self.groups[index]
        if self.limiter.try_acquire(group):
            self.running.append(group)
            self.waiting.discard(group)
        else:
            self.waiting.add(group)

    @rule(data=st.data())
    def release(self, data):
        if self.running:
            index = data.draw(st.integers(0, len(self.running) - 1))
            self.limiter.release(self.running.pop(index))

    @rule(index=st.integers(0, 4))
    def withdraw(self, index):
        self.limiter.withdraw(self.groups[index])
        self.waiting.discard(self.groups[index])

    @rule()
    def finish_all(self):
        while self.running:
            self.limiter.release(self.running.pop())
        if self.waiting:
            assert any(self.limiter.may_acquire(group) for group in self.waiting)

    @invariant()
    def nothing_is_given_twice(self):
        used = Counter()
        for group in self.running:
            used.update(group.needs)
        assert all(count <= self.limiter.totals()[key] for key, count in used.items())

    def teardown(self):
        """Each group that contends runs within a bounded number of turns."""
        self.finish_all()
        for group in self.groups:
            self.limiter.withdraw(group)
        ran = []
        for _ in range(30 + 4 * sum(group.turn for group in self.groups)):
            ran += [group.name for group in self.groups if self._ran(group)]
        assert set(ran) == {group.name for group in self.groups}

    def _ran(self, group):
        if not self.limiter.try_acquire(group):
            return False
        self.limiter.release(group)
        return True


TestRateLimiterMachine = RateLimiterMachine.TestCase
TestRateLimiterMachine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
