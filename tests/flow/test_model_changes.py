"""Models come, change and go while frames flow, and no admitted frame is lost."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from edgert.client import Client, RequestError
from edgert.errors import ConfigError, EdgertError, ModelError
from edgert.pipeline.model_set import ModelState
from edgert.stats import LiveCount
from tests.fakes import store
from tests.fakes.line import WAIT_S, Line, demand_conservation
from tests.fakes.store import Site, noise

PICTURE = np.full((8, 8, 3), 7, np.uint8)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def add_version(site, version):
    """Add a version whose results are 1000 times its number higher."""
    site.add("mean", store.mean_model(offset=version * 1000), version=version)


def load(line, name="mean"):
    line.models.load(line.file.plan(name))


def endless(models='"mean"'):
    return f'[sources.s]\nuri = "{noise(4)}"\nloop = true\nmodels = [{models}]\n'


class Requests:
    """Clients that ask without pause, each on a thread; `answers` are (version, status) as they came."""

    def __init__(self, uri, clients=2):
        self.answers = []
        self.arrived = threading.Condition()
        self._is_over = False
        self._threads = [threading.Thread(target=self._ask, args=(uri,)) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over = True
        for thread in self._threads:
            thread.join(WAIT_S)

    def wait_for(self, wanted, count=3):
        """Wait for answers, from now on, that are wanted."""
        with self.arrived:
            begin = len(self.answers)
            arrived = self.arrived.wait_for(lambda: sum(map(wanted, self.answers[begin:])) >= count, WAIT_S)
        assert arrived, f"Of {self.answers[-10:]} none was what the test waits for."

    def _ask(self, uri):
        with Client(uri) as client:
            while not self._is_over:
                answer = self._once(client)
                with self.arrived:
                    self.answers.append(answer)
                    self.arrived.notify_all()

    @staticmethod
    def _once(client):
        try:
            result = client.infer(PICTURE, timeout_s=WAIT_S)
        except RequestError as refused:
            return (None, refused.status)
        [tensor] = result["tensors"]
        assert tensor["data"] == [result["version"] * 1000 + 7] * 3
        return (result["version"], "ok")


@pytest.fixture
def serving(site):
    """Return a function that starts a line with a request source under traffic."""
    opened = []

    def start(clients=2):
        uri = f"router+bind:ipc://{site.folder}/in"
        line = Line(site.load(f'[sources.in]\nuri = "{uri}"\nmodels = ["mean"]\n'))
        opened.append(line.__enter__())
        opened.append(Requests(uri, clients).__enter__())
        return line, opened[-1]

    yield start
    for thing in reversed(opened):
        thing.__exit__(None, None, None)


def test_new_version_takes_over_and_every_request_is_answered(site, serving):
    add_version(site, 1)
    line, requests = serving()
    requests.wait_for(lambda answer: answer == (1, "ok"))
    add_version(site, 2)
    load(line)
    requests.wait_for(lambda answer: answer == (2, "ok"))
    assert set(requests.answers) == {(1, "ok"), (2, "ok")}
    assert [state.state for _, state in line.model_states] == ["LOADING", "READY"] * 2
    assert line.models.states["mean"] == ModelState("READY", (2,))
    assert [model.version for model in line.models.loaded()] == [2]


def test_old_version_answers_until_the_new_one_is_warm(site, serving, monkeypatch):
    add_version(site, 1)
    line, requests = serving()
    requests.wait_for(lambda answer: answer == (1, "ok"))
    opening, may_go_on = threading.Event(), threading.Event()
    open_model = line.models._open_model

    def open_model_slowly(plan, version):
        model = open_model(plan, version)
        opening.set()
        assert may_go_on.wait(WAIT_S)
        return model

    monkeypatch.setattr(line.models, "_open_model", open_model_slowly)
    add_version(site, 2)
    changer = threading.Thread(target=load, args=(line,))
    changer.start()
    try:
        assert opening.wait(WAIT_S)
        requests.wait_for(lambda answer: answer == (1, "ok"))
        assert line.assembly.is_ready()
        assert line.models.states["mean"] == ModelState("LOADING", (1,))
    finally:
        may_go_on.set()
        changer.join(WAIT_S)
    requests.wait_for(lambda answer: answer == (2, "ok"))
    assert {status for _, status in requests.answers} == {"ok"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"model": b"no engine"}, "not a usable ONNX file"),
        ({"config": "max_batch_size: four\n"}, "max_batch_size"),
        ({"settings": '[prepare]\nfitt = "stretch"\n'}, "unknown key 'fitt'"),
        ({"settings": '[labels]\nfile = "absent.txt"\n'}, "absent.txt"),
        ({"config": 'input [ { name: "image" data_type: TYPE_FP32 dims: [ 3, 9, 9 ] } ]\n'}, "dims"),
        ({"config": "version_policy { specific { versions: [ 1, 7 ] } }\n"}, "7"),
    ],
    ids=["engine", "pbtxt", "settings", "labels", "dims", "version"],
)
def test_broken_change_leaves_the_old_version_at_work(site, serving, broken, reason):
    add_version(site, 1)
    line, requests = serving(clients=1)
    before = LiveCount.snapshot()
    site.add("mean", version=2, **{"model": store.mean_model(offset=2000), "settings": None, **broken})
    with pytest.raises(EdgertError, match=reason):
        load(line)
    requests.wait_for(lambda answer: answer == (1, "ok"))
    assert {status for _, status in requests.answers} == {"ok"}
    assert line.assembly.is_ready()
    assert LiveCount.snapshot()["loaded model"] == before["loaded model"] == 1
    assert line.models.states["mean"].versions == (1,)


def test_failed_reload_says_why_in_its_state(site):
    add_version(site, 1)
    with Line(site.load(endless())) as line:
        site.add("mean", b"no engine", version=2)
        with pytest.raises(ModelError):
            load(line)
        state = line.models.states["mean"]
        assert (state.state, state.versions) == ("READY", (1,))
        assert "not a usable ONNX file" in state.reason
        site.add("mean", store.mean_model(offset=2000), version=2)
        load(line)
        assert line.models.states["mean"] == ModelState("READY", (2,))


def test_unloaded_model_refuses_and_comes_back(site, serving):
    add_version(site, 1)
    line, requests = serving()
    requests.wait_for(lambda answer: answer == (1, "ok"))
    line.models.unload("mean")
    requests.wait_for(lambda answer: answer == (None, "model_error"))
    assert not line.assembly.is_ready()
    assert line.models.states["mean"] == ModelState("UNAVAILABLE", (), "unloaded")
    load(line)
    requests.wait_for(lambda answer: answer == (1, "ok"))
    assert line.assembly.is_ready()
    assert set(requests.answers) == {(1, "ok"), (None, "model_error")}


def test_frames_for_a_model_that_is_not_loaded_are_counted(site):
    add_version(site, 1)
    site.add_noop()
    with Line(site.load(endless('"mean", "noop"'))) as line:
        line.models.unload("mean")
        link = line.assembly.source_report("s").models["mean"]
        while not link.dropped.get("no_model"):  # the source goes on for ever, so that this ends
            link = line.assembly.source_report("s").models["mean"]
        report = line.drain()
    demand_conservation(report)
    assert set(report.sources["s"].models["mean"].dropped) == {"no_model"}
    assert report.sources["s"].models["noop"].dropped == {}


def test_fifty_quick_changes_lose_no_frame_and_leave_nothing(site):
    site.add_noop("mean")
    with Line(site.load(endless('"mean"').replace("[sources.s]", "[sources.s]\nslots = 4"))) as line:
        threads = threading.active_count()
        for _ in range(50):
            load(line)
        assert LiveCount.snapshot()["loaded model"] == 1
        assert threading.active_count() == threads
        report = line.drain()
    demand_conservation(report)
    link = report.sources["s"].models["mean"]
    assert link.dropped == {}
    keys = [(result["source"], result["seq"]) for result in site.results()]
    assert len(set(keys)) == len(keys)
    [sink] = report.sinks.values()
    assert len(keys) + sum(sink.dropped.values()) == link.published


def test_quick_changes_of_a_real_engine_give_its_memory_back(site):
    add_version(site, 1)
    with Line(site.load(endless())) as line:
        for version in range(2, 12):
            add_version(site, version)
            load(line)
        line.models.unload("mean")
        live = LiveCount.snapshot()
        assert "loaded model" not in live
        assert "host lane" not in live
        report = line.drain()
    assert report.memory.used_bytes == report.sources["s"].slots.size_bytes
    demand_conservation(report)
    assert set(report.sources["s"].models["mean"].dropped) <= {"no_model"}


def test_source_bound_to_a_version_keeps_it_beside_newer_ones(site):
    add_version(site, 1)
    site.add("mean", config="version_policy { all { } }\n")
    with Line(site.load(endless('"mean/1"') + endless().replace("sources.s", "sources.t"))) as line:
        add_version(site, 2)
        load(line)
        assert line.models.states["mean"].versions == (1, 2)
        report = line.drain()
        demand_conservation(report)
    versions = Counter((result["source"], result["version"]) for result in site.results())
    assert versions.keys() <= {("s", 1), ("t", 1), ("t", 2)}
    assert {
        link.dropped.get("no_model") for source in report.sources.values() for link in source.models.values()
    } == {None}


def test_changes_at_the_same_time_happen_one_after_the_other(site):
    add_version(site, 1)
    with Line(site.load(endless())) as line:
        threads = [threading.Thread(target=load, args=(line,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert [model.version for model in line.models.loaded()] == [1]
        demand_conservation(line.drain())


def test_model_that_cannot_be_loaded_at_the_start_ends_it_and_leaves_nothing(site):
    site.add("mean", b"no engine")
    line = Line(site.load(endless()))
    with pytest.raises(ModelError, match="not a usable ONNX file"):
        line.__enter__()
    assert line.models.states["mean"].state == "UNAVAILABLE"


def test_budget_that_is_too_small_refuses_a_model_by_name_of_the_bytes(site):
    add_version(site, 1)
    site.add("mean", config="max_batch_size: 1024\ndynamic_batching { }\n")
    line = Line(site.load(endless() + "[service]\nmemory_mb = 1\n"))
    with pytest.raises(EdgertError, match="Raise the memory budget") as refused:
        line.__enter__()
    assert refused.value.status == "out_of_device_memory_error"


def test_second_tap_is_refused(site):
    site.add_noop()
    taps = "".join(
        f'[sinks.{name}]\ntype = "tap"\nendpoint = "pub+bind:ipc://{site.folder}/{name}"\n' for name in "ab"
    )
    with pytest.raises(ConfigError, match="sinks: a and b are taps; one is enough"):
        site.load(endless('"noop"') + taps).check()
