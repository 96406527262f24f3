"""What commands change in a pipeline; with frames flowing in tests/flow/test_control_flow.py."""

from __future__ import annotations

import pytest

from edgert import __version__
from edgert.errors import ModelError
from edgert.pipeline.changes import Changes
from edgert.pipeline.model_set import ModelState
from tests.fakes.store import Site


class Models:
    """Models of which those in `broken` cannot be loaded."""

    def __init__(self):
        self.broken = set()
        self.loads = []
        self.states = {"a": ModelState("READY", (1,))}

    def load(self, plan):
        self.loads.append(plan.entry.name)
        if plan.entry.name in self.broken:
            raise ModelError("no engine")


class Assembly:
    boot = "b1"

    def __init__(self):
        self.models = Models()

    def uptime_s(self):
        return 1.5


@pytest.fixture
def assembly():
    return Assembly()


@pytest.fixture
def stops():
    return []


@pytest.fixture
def changes(tmp_path, assembly, stops):
    site = Site(tmp_path)
    for name in ("a", "b", "c"):
        site.add_noop(name)
    file = site.load('[sources.s]\nuri = "replay:noise"\nmodels = ["a", "b", "c"]\n')
    return Changes(file, assembly, lambda: stops.append(True))


def test_all_are_reloaded_though_one_fails_and_the_error_names_it(changes, assembly, caplog):
    assembly.models.broken = {"b"}
    with pytest.raises(ModelError, match="1 of 3 not reloaded: b: no engine"):
        changes.reload_all()
    assert assembly.models.loads == ["a", "b", "c"]
    assert "model b is not reloaded, what was loaded goes on: no engine" in caplog.text
    assembly.models.broken = set()
    changes.reload_all()
    assert assembly.models.loads == ["a", "b", "c"] * 2


def test_only_models_of_the_pipeline_are_loaded(changes, assembly):
    with pytest.raises(ModelError, match="Model 'x' is in no source of"):
        changes.load("x")
    with pytest.raises(ModelError, match="Model 'b' is not loaded"):
        changes.unload("b")
    assert assembly.models.loads == []


class Served:
    """What requests use."""

    def __init__(self):
        self.calls = []

    def load(self, model):
        self.calls.append(("load", model))

    def unload(self, model):
        self.calls.append(("unload", model))

    def reload_changed(self):
        self.calls.append("reload")


def test_with_serving_every_model_of_the_store_is_loaded_through_it(changes, assembly):
    changes.served = served = Served()
    changes.load("x")
    changes.unload("x")
    assert served.calls == [("load", "x"), ("unload", "x")]
    assert assembly.models.loads == []
    changes.load_for_frames("a")
    assert (assembly.models.loads, len(served.calls)) == (["a"], 2)


def test_all_are_reloaded_for_frames_and_what_has_changed_for_requests(changes, assembly):
    changes.served = served = Served()
    changes.reload_all()
    assert served.calls == ["reload"]
    assert assembly.models.loads == ["a", "b", "c"]


def test_drain_asks_the_service_to_stop_and_a_ping_tells_who_it_is(changes, stops):
    changes.drain()
    assert stops == [True]
    assert changes.status() == {"boot": "b1", "uptime_s": 1.5, "version": __version__}
