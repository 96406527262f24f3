"""Engines that frames and requests share."""

from __future__ import annotations


import pytest

from edgert.execute.engine import EngineInfo
from edgert.models.store import ModelStore
from edgert.pipeline.model_plan import plan_model
from edgert.pipeline.shared_engines import SharedEngines


class Engine:
    """An engine that counts its closing."""

    is_driven = False

    def __init__(self):
        self.info = EngineInfo("onnxruntime", (), (), batches=True)
        self.closed = 0

    def close(self):
        self.closed += 1


class Driver:
    """What an engine file is chosen by."""

    def attributes(self):
        return {}


class Device:
    driver = Driver()


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "m" / "1" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"graph")
    (tmp_path / "m" / "config.pbtxt").write_text('platform: "onnxruntime_onnx"')
    return file


class Site:
    """Loads through the pool and keeps what was made."""

    def __init__(self, model):
        self.made = []
        self.engines = SharedEngines(self.load_file)
        self._store = ModelStore(model.parent.parent.parent)

    def load_file(self, plan, version, device, threads):
        self.made.append(Engine())
        return self.made[-1]

    def load(self, runtime=None):
        entry = self._store.entry("m")
        plan = plan_model(entry, {"engine": {"runtime": runtime}} if runtime else {}, entry.settings.path)
        return self.engines.load(plan, entry.chosen_versions()[-1], Device(), 1)


@pytest.fixture
def site(model):
    return Site(model)


def test_the_same_file_is_loaded_once_and_closed_after_its_last_user(site):
    first, second = site.load(), site.load()
    first.close()
    assert [engine.closed for engine in site.made] == [0]
    second.close()
    assert [engine.closed for engine in site.made] == [1]
    third = site.load()
    assert len(site.made) == 2
    third.close()


def test_a_file_that_was_replaced_is_another_engine(site, model):
    old = site.load()
    other = model.with_name("new")
    other.write_bytes(b"other graph")
    other.replace(model)
    new = site.load()
    assert len(site.made) == 2
    old.close()
    new.close()
    assert [engine.closed for engine in site.made] == [1, 1]


def test_closing_again_does_not_take_it_from_another(site):
    first, second = site.load(), site.load()
    first.close()
    first.close()
    assert site.made[0].closed == 0
    second.close()


def test_an_engine_with_a_state_of_its_own_is_never_shared(site):
    first, second = site.load("noop"), site.load("noop")
    assert first is not second
    assert len(site.made) == 2
