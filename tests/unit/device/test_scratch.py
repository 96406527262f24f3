"""Scratch memory: who shares it, when it grows, when it is freed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.device.host import HostEvent
from edgert.device.memory import Budget
from edgert.device.scratch import ALIGNMENT, Scratch
from edgert.errors import OutOfDeviceMemoryError
from tests.fakes.noted_device import NotedDriver


@pytest.fixture
def driver():
    """A device, current, of which nothing may be held at the end."""
    driver = NotedDriver()
    with driver.current():
        yield driver
    assert driver.budget.used_bytes == 0


@pytest.fixture
def shared(driver):
    return Scratch(driver, "scratch group g", is_shared=True)


def used_bytes(driver):
    return driver.budget.used_bytes


# Size


@pytest.mark.parametrize(("wanted", "size"), [(0, ALIGNMENT), (1, ALIGNMENT), (1000, 1000)])
def test_a_lane_gets_what_it_needs_and_never_nothing(driver, wanted, size):
    scratch = Scratch(driver, "model m", is_shared=False)
    lease = scratch.join(wanted)
    assert lease.buffer.size_bytes == size
    assert lease.buffer.address % ALIGNMENT == 0
    assert driver.budget.by_owner()["model m"].used_bytes == size
    scratch.leave(lease)


def test_who_needs_no_more_joins_the_buffer_that_is_there(driver, shared):
    first, second = shared.join(1000), shared.join(400)
    assert first is second
    assert used_bytes(driver) == 1000
    shared.leave(first)
    assert used_bytes(driver) == 1000
    shared.leave(second)


def test_who_needs_more_gets_a_larger_buffer_and_the_others_keep_theirs_until_they_move(driver, shared):
    small = shared.join(1000)
    large = shared.join(5000)
    assert (shared.is_current(small), shared.is_current(large)) == (False, True)
    assert used_bytes(driver) == 6000

    moved = shared.move(small)

    assert moved is large
    assert used_bytes(driver) == 5000
    shared.leave(moved)
    shared.leave(large)


def test_a_buffer_that_two_lanes_still_use_is_freed_when_the_second_has_moved(driver, shared):
    first, second, large = shared.join(1000), shared.join(1000), shared.join(5000)
    first = shared.move(first)
    assert used_bytes(driver) == 6000
    second = shared.move(second)
    assert used_bytes(driver) == 5000
    for lease in (first, second, large):
        shared.leave(lease)


def test_a_lane_that_leaves_without_having_moved_frees_its_old_buffer(driver, shared):
    small, large = shared.join(1000), shared.join(5000)
    shared.leave(small)
    assert used_bytes(driver) == 5000
    shared.leave(large)


def test_a_buffer_that_nobody_holds_any_more_goes_when_it_is_outgrown(driver, shared):
    small, large = shared.join(1000), shared.join(5000)
    shared.leave(large)
    assert used_bytes(driver) == 6000  # the small one's lane will move to it
    largest = shared.join(7000)
    assert used_bytes(driver) == 8000
    shared.leave(shared.move(small))
    shared.leave(largest)


def test_after_the_last_has_left_the_next_begins_at_its_own_size(driver, shared):
    shared.leave(shared.join(5000))
    assert used_bytes(driver) == 0
    lease = shared.join(300)
    assert lease.buffer.size_bytes == 300
    shared.leave(lease)


def test_growth_that_does_not_fit_leaves_everything_as_it_was():
    driver = NotedDriver(Budget(3000))
    shared = Scratch(driver, "scratch group g", is_shared=True)
    with driver.current():
        lease = shared.join(1000)
        with pytest.raises(OutOfDeviceMemoryError, match="scratch group g 1000"):
            shared.join(2500)
        assert shared.is_current(lease)
        assert shared.join(900) is lease
        shared.leave(lease)
        shared.leave(lease)
    assert driver.budget.used_bytes == 0


MOVES = st.lists(st.tuples(st.sampled_from(["join", "move", "leave"]), st.integers(1, 4000)), max_size=30)


@given(MOVES)
def test_whatever_lanes_do_only_buffers_that_somebody_may_use_are_held(moves):
    driver = NotedDriver()
    shared = Scratch(driver, "g", is_shared=True)
    held = []
    with driver.current():
        for verb, number in moves:
            if verb == "join":
                held.append((shared.join(number), number))
            elif held:
                lease, needs = held.pop(number % len(held))
                if verb == "leave":
                    shared.leave(lease)
                else:
                    held.append((shared.move(lease), needs))
            _check(driver, shared, held)
        for lease, _ in held:
            shared.leave(lease)
    assert (driver.budget.used_bytes, HostEvent.live.count) == (0, 0)


def _check(driver, shared, held):
    leased = {id(lease): lease.buffer.size_bytes for lease, _ in held}
    assert all(lease.buffer.size_bytes >= needs for lease, needs in held)
    newest = driver.budget.used_bytes - sum(leased.values())  # one that nobody has moved to yet, or none
    assert newest == 0 or (held and not any(shared.is_current(lease) for lease, _ in held))


# Order


def test_each_run_waits_for_the_last_one_on_any_lane(driver, shared):
    first, second = driver.open_stream(), driver.open_stream()
    leases = [shared.join(100), shared.join(100)]
    for stream in (first, second):
        with shared.use(stream):
            pass
    assert [(asked.verb, asked.stream) for asked in driver.asked] == [
        ("wait", first),
        ("record", first),
        ("wait", second),
        ("record", second),
    ]
    assert len({id(asked.what) for asked in driver.asked}) == 1
    for part in (first, second):
        part.close()
    for lease in leases:
        shared.leave(lease)


def test_the_order_outlasts_growth(driver, shared):
    stream = driver.open_stream()
    small = shared.join(100)
    with shared.use(stream):
        pass
    large = shared.join(1000)
    with shared.use(stream):
        pass
    _, record, wait, _ = driver.asked
    assert (record.verb, wait.verb) == ("record", "wait")
    assert record.what is wait.what
    stream.close()
    shared.leave(small)
    shared.leave(large)


def test_lanes_of_two_threads_take_turns_from_wait_to_mark(driver, shared):
    """One lane is warmed on the thread that loads while another serves."""
    loading, serving = driver.open_stream(), driver.open_stream()
    leases = [shared.join(100), shared.join(100)]
    is_inside, may_end = threading.Event(), threading.Event()

    def warm():
        with driver.current(), shared.use(loading):
            is_inside.set()
            assert may_end.wait(10.0)

    def serve():
        with driver.current(), shared.use(serving):
            pass

    threads = [threading.Thread(target=warm), threading.Thread(target=serve)]
    threads[0].start()
    assert is_inside.wait(10.0)
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join()
    assert [(asked.verb, asked.stream) for asked in driver.asked] == [
        ("wait", loading),
        ("record", loading),
        ("wait", serving),
        ("record", serving),
    ]
    for stream, lease in zip((loading, serving), leases, strict=True):
        stream.close()
        shared.leave(lease)


def test_a_run_that_fails_is_marked_too(driver, shared):
    stream, lease = driver.open_stream(), shared.join(100)
    with pytest.raises(ZeroDivisionError), shared.use(stream):
        raise ZeroDivisionError
    assert [asked.verb for asked in driver.asked] == ["wait", "record"]
    stream.close()
    shared.leave(lease)


def test_the_runs_of_one_lane_need_no_mark(driver):
    scratch, stream = Scratch(driver, "model m", is_shared=False), driver.open_stream()
    lease = scratch.join(100)
    with scratch.use(stream):
        pass
    assert driver.asked == []
    assert HostEvent.live.count == 0
    stream.close()
    scratch.leave(lease)
