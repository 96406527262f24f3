"""Engines that frames and requests share."""

from __future__ import annotations

import threading

import pytest

from edgert.errors import ModelError
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


DEVICE = Device()


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

    def load(self, runtime=None, device=DEVICE):
        entry = self._store.entry("m")
        plan = plan_model(entry, {"engine": {"runtime": runtime}} if runtime else {}, entry.settings.path)
        return self.engines.load(plan, entry.chosen_versions()[-1], device, 1)


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


def test_each_device_has_an_engine_of_its_own(site):
    first, second, third = site.load(), site.load(device=Device()), site.load()
    assert len(site.made) == 2
    first.close()
    second.close()
    assert [engine.closed for engine in site.made] == [0, 1]
    third.close()
    assert [engine.closed for engine in site.made] == [1, 1]


def test_an_engine_with_a_state_of_its_own_is_never_shared(site):
    first, second = site.load("noop"), site.load("noop")
    assert first is not second
    assert len(site.made) == 2


def test_weights_beside_the_graph_that_were_replaced_are_another_engine(site, model):
    weights = model.with_name("weights.bin")
    weights.write_bytes(b"old")
    old = site.load()
    weights.write_bytes(b"newer")
    new = site.load()
    assert len(site.made) == 2
    old.close()
    new.close()


def test_an_engine_is_closed_while_another_one_loads(site, model):
    first = site.load()
    (model.parent / "more").write_bytes(b"")  # another engine from here on
    begun, go = threading.Event(), threading.Event()

    def load_slowly(*given):
        begun.set()
        assert go.wait(10)
        return site.load_file(*given)

    site.engines._load = load_slowly
    second = []
    loader = threading.Thread(target=lambda: second.append(site.load()))
    loader.start()
    assert begun.wait(10)
    first.close()
    assert site.made[0].closed == 1
    go.set()
    loader.join(10)
    second[0].close()


def test_those_who_want_an_engine_that_loads_wait_and_share_it(site):
    begun, go = threading.Event(), threading.Event()
    load_file = site.load_file

    def load_slowly(*given):
        begun.set()
        assert go.wait(10)
        return load_file(*given)

    site.engines._load = load_slowly
    shared = []
    loaders = [threading.Thread(target=lambda: shared.append(site.load())) for _ in range(3)]
    loaders[0].start()
    assert begun.wait(10)
    for loader in loaders[1:]:
        loader.start()
    go.set()
    for loader in loaders:
        loader.join(10)
    assert len(site.made) == 1
    for engine in shared:
        engine.close()
    assert site.made[0].closed == 1


def test_a_load_that_fails_leaves_nothing_behind_for_the_next(site):
    def fail(*given):
        raise ModelError("damaged")

    load_file, site.engines._load = site.engines._load, fail
    with pytest.raises(ModelError, match="damaged"):
        site.load()
    site.engines._load = load_file
    engine = site.load()
    engine.close()
    assert [made.closed for made in site.made] == [1]


def test_a_link_that_leads_nowhere_hinders_nobody(site, model):
    (model.parent / "gone").symlink_to(model.parent / "nowhere")
    first, second = site.load(), site.load()
    assert len(site.made) == 1
    first.close()
    second.close()
