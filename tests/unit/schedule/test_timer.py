"""How late a sleeping thread is woken."""

from __future__ import annotations

import ctypes
import threading

import pytest

from edgert.schedule import timer
from edgert.schedule.timer import EXACT_NS, wake_exactly

PR_GET_TIMERSLACK = 30  # linux/prctl.h


def slack_ns():
    """Return how late the kernel may wake this thread."""
    return ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0)


def on_a_thread(work):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    return answers[0]


@pytest.fixture(autouse=True)
def usual_ns():
    usual = slack_ns()
    if usual <= EXACT_NS:
        pytest.skip(f"this kernel says that its timer slack is {usual}")
    return usual


def test_the_calling_thread_is_woken_on_time():
    assert on_a_thread(lambda: (wake_exactly(), slack_ns())) == (True, EXACT_NS)


def test_other_threads_are_left_as_they_are(usual_ns):
    on_a_thread(wake_exactly)
    assert slack_ns() == usual_ns
    assert on_a_thread(slack_ns) == usual_ns


class NoSuchCall:
    """A C library without `prctl`, or a kernel that refuses it."""

    def __init__(self, *answer):
        if answer:
            self.prctl = lambda *_: answer[0]


@pytest.mark.parametrize("library", [NoSuchCall(), NoSuchCall(-1)], ids=["absent", "refused"])
def test_where_it_cannot_be_set_it_says_so(monkeypatch, library):
    monkeypatch.setattr(timer.ctypes, "CDLL", lambda name: library)
    assert not wake_exactly()
