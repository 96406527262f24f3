"""Changes of the loaded models that flows do not reach; see tests/flow/test_model_changes.py."""

from __future__ import annotations

import pytest

from edgert.errors import ClosedError, ModelError
from edgert.pipeline.model_set import ModelSet, ModelState
from edgert.schedule.batcher import Batcher, BatchPolicy
from edgert.schedule.scheduler import Scheduler
from tests.fakes.store import Site


class Model:
    """What the set sees of a loaded model; it stays busy as long as the test wants."""

    is_driven = False

    def __init__(self, name, version):
        self.name = name
        self.version = version
        self.policy = BatchPolicy()
        self.batcher: Batcher
        self.lanes = ()
        self.is_idle = True
        self.is_closed = False
        self.score_min = None

    def batch_key(self, frame):
        return None

    def set_score_min(self, score_min):
        self.score_min = score_min

    def close(self):
        self.is_closed = True


@pytest.fixture
def scheduler():
    scheduler = Scheduler()
    scheduler.start()
    yield scheduler
    scheduler.stop()


@pytest.fixture
def plan(tmp_path):
    site = Site(tmp_path)
    site.add_noop("m")
    return site.load('[sources.s]\nuri = "replay:noise"\nmodels = ["m"]\n').plan("m")


@pytest.fixture
def opened():
    return []


@pytest.fixture
def models(scheduler, opened):
    def open_model(plan, version):
        opened.append(Model(plan.entry.name, version.number))
        return opened[-1]

    states = []
    models = ModelSet(
        scheduler,
        open_model,
        lambda _: None,
        lambda *_: None,
        lambda name, state: states.append((name, state)),
    )
    models.reported = states
    return models


def test_states_tell_the_whole_story(models, plan):
    models.load(plan)
    models.unload("m")
    assert models.reported == [
        ("m", ModelState("LOADING")),
        ("m", ModelState("READY", (1,))),
        ("m", ModelState("UNAVAILABLE", (), "unloaded")),
    ]


def test_model_is_found_by_name_and_by_version(models, plan, opened):
    models.load(plan)
    assert models.get("m") is models.get("m/1") is opened[0]
    assert models.get("m/2") is models.get("x") is None


def test_nothing_is_loaded_once_the_set_is_closed(models, plan, opened):
    models.load(plan)
    models.close()
    assert opened[0].is_closed
    with pytest.raises(ClosedError, match="the service stops"):
        models.load(plan)
    assert len(opened) == 1


def test_model_whose_batch_never_returns_is_told_and_is_not_freed_under_it(models, plan, opened, caplog):
    models.load(plan)
    opened[0].is_idle = False
    models.unload("m", timeout_s=0.01)
    assert "model m version 1 does not finish its batch" in caplog.text
    assert not opened[0].is_closed
    assert models.get("m") is None


def test_version_that_hangs_keeps_nobody_from_its_successor(models, plan, opened):
    models.load(plan)
    opened[0].is_idle = False
    models.load(plan, retire_s=0.01)
    assert models.get("m") is opened[1]
    models.close(timeout_s=0.01)
    assert opened[1].is_closed
    assert not opened[0].is_closed


def test_load_that_ends_after_the_set_was_closed_leaves_nothing(scheduler, plan):
    opened = []

    def open_model(plan, version):
        opened.append(Model(plan.entry.name, version.number))
        models.close(timeout_s=0.01)
        return opened[-1]

    models = ModelSet(scheduler, open_model, lambda _: None, lambda *_: None, lambda *_: None)
    with pytest.raises(ClosedError):
        models.load(plan)
    assert opened[0].is_closed
    assert models.get("m") is None


def test_idle_means_every_version_of_every_model(models, plan, opened):
    models.load(plan)
    assert models.is_idle()
    opened[0].is_idle = False
    assert not models.is_idle()
    opened[0].is_idle = True
    models.close()


def test_a_threshold_is_for_what_is_loaded_now(models, plan, opened):
    with pytest.raises(ModelError, match="Model 'm' is not loaded"):
        models.set_score_min("m", 0.6)
    models.load(plan)
    models.set_score_min("m", 0.6)
    models.load(plan)
    assert [model.score_min for model in opened] == [0.6, None]
    models.unload("m")
    with pytest.raises(ModelError, match="Model 'm' is not loaded"):
        models.set_score_min("m", 0.6)
