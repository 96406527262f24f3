"""Faults of a model's own code in the log: the first at once, then one a minute."""

from __future__ import annotations

import logging

import pytest

from edgert.errors import ModelError, RequestError
from edgert.execute.python_faults import MOST_KINDS, FaultLog
from edgert.execute.python_model import Caller

NAME = "edgert.execute.python_faults"


class Clock:
    """Seconds that a test sets."""

    def __init__(self):
        self.now_s = 5.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def faults(clock):
    return FaultLog(clock)


def said(caplog):
    return [record.message for record in caplog.records if record.name == NAME]


def test_the_first_is_told_at_once_and_the_next_after_a_minute_with_a_count(faults, clock, caplog):
    for _ in range(3):
        faults.note("kind", "it failed")
    assert said(caplog) == ["it failed"]
    clock.now_s += 59.9
    faults.note("kind", "it failed")
    assert len(said(caplog)) == 1
    clock.now_s += 0.2
    faults.note("kind", "it failed again")
    assert said(caplog)[1:] == ["it failed again (and 3 more like it before)"]


def test_each_kind_is_told(faults, caplog):
    for kind in ("a", "b", "a", "b"):
        faults.note(kind, kind)
    assert said(caplog) == ["a", "b"]


def test_what_is_remembered_is_limited(faults):
    for kind in range(3 * MOST_KINDS):
        faults.note(str(kind), "x")
    assert len(faults._kinds) <= MOST_KINDS


def test_faults_of_execute_reach_the_log_at_its_default_level(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    caller = Caller("m", "Model", tmp_path / "model.py")

    def fail():
        raise ValueError("below zero")

    for _ in range(2):
        with pytest.raises(ModelError):
            caller.call("execute", fail)
    [message] = said(caplog)
    assert message.startswith("Model 'm': Model.execute failed at ")
    assert message.endswith("ValueError: below zero")


def test_what_others_tell_of_is_not_logged(tmp_path, caplog):
    caller = Caller("m", "Model", tmp_path / "model.py")

    def refuse():
        raise RequestError("the client's mistake")

    with pytest.raises(RequestError):
        caller.call("execute", refuse)
    with pytest.raises(ModelError):
        caller.call("load", lambda: 1 / 0)
    assert said(caplog) == []
