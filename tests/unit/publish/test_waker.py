"""Waking a thread that waits on descriptors."""

from __future__ import annotations

import select

from edgert.publish.waker import Waker


def readable(waker):
    return bool(select.select([waker.fileno()], [], [], 0)[0])


def test_a_wake_shows_until_it_is_cleared():
    waker = Waker()
    waker.open()
    assert not readable(waker)
    waker.wake()
    waker.wake()
    assert readable(waker)
    waker.clear()
    assert not readable(waker)
    waker.wake()
    assert readable(waker)
    waker.close()


def test_waking_what_is_not_open_does_nothing():
    waker = Waker()
    waker.wake()
    waker.clear()
    waker.close()
    waker.open()
    assert not readable(waker)
    waker.close()
    waker.wake()
