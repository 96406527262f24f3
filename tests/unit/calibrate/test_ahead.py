import threading

import pytest

from edgert.calibrate.ahead import ahead


def test_items_come_in_their_order():
    with ahead(iter(range(5))) as items:
        assert list(items) == [0, 1, 2, 3, 4]
    with ahead(iter([])) as items:
        assert list(items) == []


def test_the_next_is_made_while_the_one_before_is_at_work():
    is_begun = threading.Event()

    def make():
        yield "first"
        is_begun.set()
        yield "second"

    with ahead(make()) as items:
        assert next(items) == "first"
        assert is_begun.wait(10)
        assert next(items) == "second"


def test_no_more_than_one_is_made_that_nobody_took():
    made = []

    def make():
        for number in range(10):
            made.append(number)
            yield number

    with ahead(make()) as items:
        next(items)
    assert made == [0, 1]


def test_an_error_comes_in_its_place():
    def make():
        yield 1
        raise ValueError("the second cannot be made")

    with ahead(make()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="the second"):
            next(items)


def test_its_thread_ends_with_it_whatever_the_caller_does():
    def use():
        with ahead(iter(range(9))) as items:
            next(items)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")] == []
