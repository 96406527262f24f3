"""Ctrl-C: the first asks, the second ends."""

from __future__ import annotations

import os
import select
import signal

import pytest

from edgert.interrupt import Interrupt


@pytest.mark.parametrize(
    ("first", "second"), [(signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_the_first_signal_asks_and_wakes_and_the_second_ends(first, second):
    before = signal.getsignal(first), signal.getsignal(second)
    with Interrupt() as interrupt:
        assert not interrupt.is_asked()
        os.kill(os.getpid(), first)
        assert interrupt.is_asked()
        assert select.select([interrupt], [], [], 0)[0] == [interrupt]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), second)
    assert (signal.getsignal(first), signal.getsignal(second)) == before


def test_nobody_is_woken_before():
    with Interrupt() as interrupt:
        assert select.select([interrupt], [], [], 0)[0] == []
    assert interrupt.fileno() == -1


def test_handlers_are_put_back_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError), Interrupt():
        raise RuntimeError
    assert signal.getsignal(signal.SIGINT) is before
