"""Models in Python that tests write, and what these say of themselves."""

from __future__ import annotations

import builtins

import pytest

from tests.fakes.lane import TIMEOUT_S
from tests.fakes.python_model import DOUBLE, Runner, write_model


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a model in Python and gives its runner."""
    made = []

    def make_one(source=DOUBLE, grace_s=TIMEOUT_S, helpers=None, **config):
        place = write_model(tmp_path, source, **(helpers or {}))
        made.append(Runner(place, grace_s=grace_s, **config))
        return made[-1]

    yield make_one
    for runner in made:
        runner.close()


@pytest.fixture
def diary(monkeypatch):
    """A list that a model sees as `diary`."""
    entries = []
    monkeypatch.setattr(builtins, "diary", entries, raising=False)
    return entries
