"""Memory for tensors that models hand to each other: kept, bounded, given back; and its tensors."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgert.device.handed import LEAST_BYTES, OWNER, HandedPool, HandedPools, HandedTensor, on_host
from edgert.device.memory import Budget, MemoryKind
from edgert.errors import ClosedError
from tests.fakes.noted_device import NotedDriver, open_noted

ROOM = 4 * LEAST_BYTES


@pytest.fixture
def device():
    return open_noted(NotedDriver(Budget()))


@pytest.fixture
def pool(device):
    pool = HandedPool(device, ROOM)
    pool.join()
    yield pool
    pool.leave()
    assert device.driver.budget.used_bytes == pool.held_bytes == 0


def tensor(pool, values):
    """Return a tensor with these values, the only one of its loan."""
    loan = pool.take(values.nbytes)
    loan.buffer.array_u8[: values.nbytes] = values.view(np.uint8).ravel()
    made = HandedTensor(loan, 0, values.shape, values.dtype)
    pool.let_go(loan)
    return made


VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_memory_that_was_let_go_is_used_again_for_sizes_alike(pool, device):
    first = pool.take(100)
    address = first.buffer.address
    pool.let_go(first)
    again = pool.take(LEAST_BYTES)
    assert again.buffer.address == address
    pool.let_go(again)
    [event] = device.driver.budget.events()
    assert (event.owner, event.kind, event.size_bytes) == (OWNER, MemoryKind.DEVICE.value, LEAST_BYTES)


def test_memory_in_use_is_never_given_twice(pool):
    loans = [pool.take(1) for _ in range(4)]
    assert len({loan.buffer.address for loan in loans}) == 4
    for loan in loans:
        pool.let_go(loan)


def test_beyond_its_bound_it_gives_nothing_does_not_wait_and_tells_it_once(pool, caplog):
    loans = [pool.take(LEAST_BYTES) for _ in range(4)]
    assert (pool.take(1), pool.take(1), pool.refused) == (None, None, 2)
    assert len(caplog.records) == 1
    pool.let_go(loans.pop())
    loans.append(pool.take(1))
    assert loans[-1] is not None
    for loan in loans:
        pool.let_go(loan)


def test_free_memory_of_another_size_makes_room(pool, device):
    for loan in [pool.take(LEAST_BYTES) for _ in range(4)]:
        pool.let_go(loan)
    large = pool.take(ROOM // 2)
    assert pool.held_bytes == device.driver.budget.used_bytes == ROOM
    pool.let_go(large)


def test_what_can_never_have_room_costs_others_no_memory(pool):
    kept = pool.take(1)
    pool.let_go(pool.take(2 * LEAST_BYTES))
    assert pool.take(ROOM) is pool.take(2 * ROOM) is None
    assert pool.held_bytes == 3 * LEAST_BYTES
    pool.let_go(kept)


def test_a_device_without_room_is_asked_again_without_the_free_memory():
    device = open_noted(NotedDriver(Budget(3 * LEAST_BYTES)))
    pool = HandedPool(device, 100 * LEAST_BYTES)
    pool.join()
    for loan in [pool.take(LEAST_BYTES), pool.take(LEAST_BYTES)]:
        pool.let_go(loan)
    large = pool.take(2 * LEAST_BYTES)
    assert large.buffer.size_bytes == 2 * LEAST_BYTES
    assert pool.take(2 * LEAST_BYTES) is None
    pool.let_go(large)
    pool.leave()
    assert device.driver.budget.used_bytes == 0


def test_what_is_in_use_when_the_last_has_left_is_freed_when_it_is_let_go(device):
    pool = HandedPool(device, ROOM)
    pool.join()
    loan = pool.take(1)
    pool.leave()
    assert device.driver.budget.used_bytes == LEAST_BYTES
    pool.let_go(loan)
    assert device.driver.budget.used_bytes == 0


def test_without_a_bound_of_its_own_it_takes_a_share_of_the_device(device):
    pool = HandedPool(device)
    assert pool.take(device.driver.memory_info()[1] // 16) is None


def test_each_device_has_one_pool_that_keeps_memory_while_there_are_ensembles(device):
    other, pools = open_noted(), HandedPools()
    pools.join()
    pool = pools.of(device)
    assert pools.of(device) is pool is not pools.of(other)
    pools.join()
    pool.let_go(pool.take(1))
    pools.leave()
    assert device.driver.budget.used_bytes == LEAST_BYTES
    pools.leave()
    assert device.driver.budget.used_bytes == 0
    pools.join()
    pool.let_go(pool.take(1))
    assert device.driver.budget.used_bytes == LEAST_BYTES
    pools.leave()


def test_many_threads_give_back_all_that_they_take(pool):
    def work():
        for _ in range(200):
            loan = pool.take(LEAST_BYTES)
            if loan is not None:
                pool.let_go(loan)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pool.held_bytes <= ROOM


# Tensors


def test_a_tensor_on_a_device_comes_to_the_host_as_it_is_and_that_is_counted(pool, device):
    made = tensor(pool, VALUES)
    np.testing.assert_array_equal(made.to_array(), VALUES)
    assert device.copies.copies.snapshot() == {"device_to_host": 1}
    assert device.copies.bytes.snapshot() == {"device_to_host": VALUES.nbytes}
    made.release()


def test_a_tensor_looks_like_its_array(pool):
    made = tensor(pool, VALUES)
    assert (made.shape, made.ndim, made.dtype, made.nbytes) == ((2, 3), 2, np.float32, 24)
    assert made.tobytes() == VALUES.tobytes()
    np.testing.assert_array_equal(np.array(made), VALUES)
    made.release()


def test_parts_of_one_loan_hold_it_each(pool):
    loan = pool.take(VALUES.nbytes)
    loan.buffer.array_u8[: VALUES.nbytes] = VALUES.view(np.uint8).ravel()
    parts = [HandedTensor(loan, 12 * row, (1, 3), VALUES.dtype) for row in range(2)]
    pool.let_go(loan)
    parts[0].release()
    np.testing.assert_array_equal(parts[1].to_array(), VALUES[1:])
    assert loan.holders == 1
    parts[1].release()
    assert loan.holders == 0


def test_a_tensor_that_was_released_is_never_read(pool):
    made = tensor(pool, VALUES)
    made.release()
    made.release()
    with pytest.raises(ClosedError, match="released"):
        made.to_array()


def test_arrays_stay_as_they_are_and_tensors_of_a_device_are_copied(pool):
    made, arrays = tensor(pool, VALUES), {"a": VALUES}
    assert on_host(arrays) is arrays
    mixed = on_host({"a": VALUES, "b": made})
    assert mixed["a"] is VALUES
    np.testing.assert_array_equal(mixed["b"], VALUES)
    made.release()
