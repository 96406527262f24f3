"""Commands to a service at work, from the topic to the answer. A real broker: tests/system."""

from __future__ import annotations

import json
import queue
import threading
from contextlib import contextmanager

import pytest

from edgert.exit_codes import ExitCode
from edgert.pipeline import assembly
from edgert.publish import factory
from edgert.publish.session import Received
from edgert.service import Service
from tests.fakes import store
from tests.fakes.clock import WAIT_S
from tests.fakes.store import EXACT, Site, noise

CLASSIFIER = f'{EXACT}[decode]\nkind = "classify"\nactivation = "softmax"\ntop_k = 3\n'
TABLES = f"""\
[sources.s]
uri = "{noise(2)}"
loop = true
fps = 200
models = ["mean"]
[sources.once]
uri = "{noise(2)}"
models = ["plain"]
[sinks.broker]
type = "mqtt"
"""


class Broker:
    """A sink and its announcer that keep everything, in place of an MQTT connection."""

    name = "broker"

    def __init__(self):
        self.announcer = self
        self.retained = queue.SimpleQueue()
        self.results = queue.SimpleQueue()
        self.answers = queue.SimpleQueue()
        self.listener = queue.SimpleQueue()
        self._lines = factory.LinesSink("broker", factory.LinesOptions(path="/dev/null"), None)

    def send(self, result):
        self.results.put(result)

    def listen(self, suffix, on_message):
        self.listener.put((suffix, on_message))

    def answer(self, topic, payload, correlation=b""):
        self.answers.put((topic, json.loads(payload), correlation))

    def publish_state(self, state):
        self.retained.put(("state", state))

    def publish_retained(self, suffix, payload, *, newest_only=False):
        self.retained.put((suffix, payload if suffix.endswith("/snapshot") else json.loads(payload)))

    def publish_birth(self, make):
        self.retained.put(("birth", json.loads(make(1))))

    def describe(self, sources, labels):
        """Leave discovery alone."""

    def publish(self, suffix, payload):
        """Leave statistics alone."""

    def close(self, timeout_s):
        """Have nothing to deliver."""

    def statistics(self):
        return self._lines.statistics()


class Operator:
    """Sends commands to a service that runs, and hears what comes back."""

    def __init__(self, broker):
        self.broker = broker
        self.suffix, self._handle = broker.listener.get(timeout=WAIT_S)

    def ask(self, verb, **keys):
        payload = json.dumps(keys).encode() if keys else b""
        self._handle(Received(f"edgert/here/cmd/{verb}", payload, False, "me/answers", b"c"))
        topic, answer, correlation = self.broker.answers.get(timeout=WAIT_S)
        assert (topic, answer["verb"], correlation) == ("me/answers", verb, b"c")
        return answer

    def wait_state(self, suffix, state):
        while True:
            found, body = self.broker.retained.get(timeout=WAIT_S)
            if found == suffix and (body["state"] if isinstance(body, dict) else body) == state:
                return

    def next_result(self, model="mean"):
        """Return a result of a frame that was captured after this call."""
        while not self.broker.results.empty():
            self.broker.results.get()
        return next(result for result in iter(self._result, None) if result.model == model)

    def _result(self):
        return self.broker.results.get(timeout=WAIT_S)


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    site.add("mean", store.mean_model(), settings=CLASSIFIER)
    site.add("plain", store.mean_model())
    return site


@pytest.fixture
def broker(monkeypatch):
    broker = Broker()
    monkeypatch.setattr(assembly, "open_sink", lambda *_, **__: broker)
    return broker


@contextmanager
def operated(service, steps):
    """Run the steps on a thread; one that fails ends the service."""
    failures = []

    def run():
        try:
            steps()
        except BaseException as failure:  # noqa: BLE001 - told by the main thread
            failures.append(failure)
            service._events.put("stop")

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(WAIT_S)
    if failures:
        raise failures[0]


def serve(site, broker, allow, steps, tables=TABLES):
    """Run a service that allows these commands, while an operator takes the steps; return its report."""
    listed = ", ".join(f'"{entry}"' for entry in allow)
    control = f"[control]\nallow = [{listed}]\nper_minute = 60000\n"
    service = Service(site.load(tables + control), site.folder / "report.json")
    with operated(service, lambda: steps(Operator(broker))):
        assert service.run() == ExitCode.OK
    return json.loads((site.folder / "report.json").read_text())


def test_a_drain_ends_the_service_with_every_frame_answered(site, broker):
    def steps(operator):
        assert operator.suffix == "cmd/+"
        operator.next_result()
        ping = operator.ask("ping")
        assert ping["status"] == "ok"
        assert ping["uptime_s"] > 0
        assert operator.ask("unload", model="mean")["status"] == "not_allowed"
        assert operator.ask("drain", id=4) == {"status": "ok", "message": "", "verb": "drain", "id": 4}

    report = serve(site, broker, ["ping", "drain"], steps)
    assert report["commands"] == {"ok": 2, "not_allowed": 1}
    link = report["sources"]["s"]["models"]["mean"]
    assert (link["admitted"], link["dropped"]) == (link["published"], {})


def test_a_source_is_paused_and_resumed(site, broker):
    def steps(operator):
        operator.next_result()
        assert operator.ask("pause", source="s")["status"] == "ok"
        operator.wait_state("source/s/state", "disabled")
        assert operator.ask("resume", source="s")["status"] == "ok"
        operator.wait_state("source/s/state", "online")
        operator.next_result()
        unknown = operator.ask("pause", source="attic")
        assert (unknown["status"], unknown["error"]) == ("failed", "config_error")
        assert unknown["message"] == "There is no source 'attic'; there are s, once."
        operator.ask("drain")

    serve(site, broker, ["*"], steps)


def test_a_source_that_has_ended_is_not_paused(site, broker):
    def steps(operator):
        operator.wait_state("source/once/state", "ended")
        answer = operator.ask("pause", source="once")
        assert (answer["error"], answer["message"]) == ("end_of_source_error", "Source 'once' has ended.")
        operator.ask("drain")

    serve(site, broker, ["*"], steps)


def test_models_are_loaded_and_unloaded(site, broker):
    def steps(operator):
        assert operator.ask("unload", model="mean")["status"] == "ok"
        operator.wait_state("model/mean/state", "UNAVAILABLE")
        assert operator.ask("load", model="mean")["status"] == "ok"
        operator.wait_state("model/mean/state", "READY")
        assert operator.next_result().version == 1
        site.add("mean", store.mean_model(), version=2, settings=CLASSIFIER)
        assert operator.ask("reload")["status"] == "ok"
        assert operator.next_result().version == 2
        site.add("mean", b"no engine", version=3, settings=CLASSIFIER)
        failed = operator.ask("reload", model="mean")
        assert (failed["status"], failed["error"]) == ("failed", "model_error")
        assert operator.ask("reload")["message"].startswith("1 of 2 not reloaded: mean: ")
        assert operator.next_result().version == 2
        operator.ask("drain")

    serve(site, broker, ["*"], steps)


def test_a_threshold_holds_until_the_model_is_loaded_again(site, broker):
    def wait_scores(operator, count):
        """See that soon, after results that were being decoded, each result has so many scores."""
        results = (operator.next_result() for _ in range(20))
        assert count in (len(result.output.scores) for result in results)
        assert len(operator.next_result().output.scores) == count

    def steps(operator):
        wait_scores(operator, 3)
        answer = operator.ask("threshold", model="mean", score_min=1.0)
        assert (answer["status"], answer["score_min"]) == ("ok", 1.0)
        wait_scores(operator, 0)
        assert operator.ask("reload", model="mean")["status"] == "ok"
        wait_scores(operator, 3)
        plain = operator.ask("threshold", model="plain", score_min=0.5)
        assert plain["message"] == "Model 'plain' has no score_min: its decoder hands on plain tensors."
        assert operator.ask("threshold", model="x", score_min=0.5)["message"] == "Model 'x' is not loaded."
        operator.ask("drain")

    serve(site, broker, ["*"], steps)


def test_a_picture_is_made_when_it_is_asked_for_and_only_then(site, broker):
    def pictures():
        waiting = [broker.retained.get() for _ in range(broker.retained.qsize())]
        return [payload[:3] for suffix, payload in waiting if suffix == "source/s/snapshot"]

    def steps(operator):
        for _ in range(2):
            for _ in range(5):
                operator.next_result()
            assert pictures() == []
            answer = operator.ask("snapshot", source="s")
            assert (answer["status"], answer["topic"]) == ("ok", "edgert/here/source/s/snapshot")
            for _ in range(5):
                operator.next_result()
            assert pictures() == [b"\xff\xd8\xff"]
        operator.ask("drain")

    report = serve(site, broker, ["snapshot:s", "snapshot:once", "drain"], steps)
    assert report["sinks"]["broker.pictures"]["sent"] == 2


def test_nobody_takes_pictures_of_what_has_no_place_for_them(site, broker):
    def steps(operator):
        answer = operator.ask("snapshot", source="s")
        assert answer["error"] == "config_error"
        assert answer["message"].startswith("No sink publishes pictures: one with sparkplug")
        operator.ask("drain")

    serve(site, broker, ["*"], steps, TABLES + 'sparkplug = { group = "g" }\n')


def test_without_the_table_nothing_is_heard(site, broker):
    service = Service(site.load(TABLES))

    def steps():
        broker.results.get(timeout=WAIT_S)
        service._events.put("stop")

    with operated(service, steps):
        assert service.run() == ExitCode.OK
    assert broker.listener.empty()


class TestWithServing:
    """Commands reach the models of requests as HTTP's calls do."""

    @pytest.fixture(autouse=True)
    def wanted(self):
        pytest.importorskip("httptools", reason="needs httptools: pip install 'edgert[serve]'")

    def serve(self, site, broker, mode, steps, allow=("*",)):
        tables = f'{TABLES}[http]\nport = 0\n[serve]\nmode = "{mode}"\n'
        site.add("other", store.mean_model())
        return serve(site, broker, allow, steps, tables)

    def test_models_of_frames_and_of_requests_alone_are_loaded_and_unloaded(self, site, broker):
        def steps(operator):
            assert operator.ask("load", model="other")["status"] == "ok"
            assert operator.ask("unload", model="other")["status"] == "ok"
            assert operator.ask("load", model="mean")["status"] == "ok"
            operator.next_result()
            assert operator.ask("unload", model="mean")["status"] == "ok"
            operator.wait_state("model/mean/state", "UNAVAILABLE")
            assert operator.ask("load", model="gone")["error"] == "unknown_model_error"
            operator.ask("drain")

        self.serve(site, broker, "explicit", steps)

    def test_only_models_of_frames_where_the_mode_keeps_the_others(self, site, broker):
        def steps(operator):
            refused = operator.ask("load", model="other")
            assert refused["error"] == "unsupported_error"
            assert 'serve.mode is "none", set it to "explicit"' in refused["message"]
            assert operator.ask("reload", model="mean")["status"] == "ok"
            operator.next_result()
            operator.ask("drain")

        self.serve(site, broker, "none", steps)

    def test_a_model_of_requests_alone_may_be_allowed_by_name(self, site, broker):
        def steps(operator):
            assert operator.ask("load", model="other")["status"] == "ok"
            assert operator.ask("load", model="mean")["status"] == "not_allowed"
            operator.ask("drain")

        self.serve(site, broker, "explicit", steps, ["load:other", "drain"])
