"""A pipeline file with `[serve]` as a service in this process: HTTP and gRPC, frames beside, signals."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import tempfile
import textwrap
import threading
import time

import numpy as np
import pytest

from edgert.errors import ConfigError, ModelError
from edgert.exit_codes import ExitCode
from edgert.pipeline import assembly
from edgert.pipeline.file import PipelineFile
from edgert.service import Service
from tests.fakes import store
from tests.fakes.onnx_store import SIDE, add_chain, add_times, times
from tests.fakes.python_model import write_model
from tests.fakes.store import Site, noise

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'edgert[host]'")
pytest.importorskip("httptools", reason="needs httptools: pip install 'edgert[serve]'")

WAIT_S = 20.0
SOURCE = f'[sources.s]\nuri = "{noise(2)}"\nloop = true\nfps = 50\nmodels = ["mean"]\n'

FINITE = SOURCE.replace("loop = true\nfps = 50\n", "")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Running:
    """A service on the main thread; another one takes the steps of a test and then stops it."""

    def __init__(self, site, port, serve="", rest="", *, control=False):
        self.site, self.port, self.rest, self.control = site, port, rest, control
        self.failures = []
        self.service = Service(site.load(self.text(serve)))

    def text(self, serve="", rest=None):
        control = "control = true\n" if self.control else ""
        return (
            f"[http]\nport = {self.port}\n{control}[service]\ndrain_s = 1.0\n"
            f"[serve]\n{serve}\n{self.rest if rest is None else rest}"
        )

    def run(self, steps, *, stops=True):
        thread = threading.Thread(target=self._take, args=(steps, stops))
        thread.start()
        try:
            return self.service.run()
        finally:
            thread.join(WAIT_S)
            if self.failures:
                raise self.failures[0]

    def ask(self, method, path, body=None):
        """Return status and JSON, or text, of an answer; None while nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
        except (ConnectionError, http.client.HTTPException):
            return None, None
        finally:
            connection.close()
        is_json = answer.getheader("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(content) if content and is_json else content.decode()

    def is_ready(self):
        return self.ask("GET", "/v2/health/ready")[0] == 200

    def infer(self, model, value=1.0, shape=(1, SIDE), name="X"):
        """Return status and the first output's data, or the error."""
        data = np.full(shape, value).ravel().tolist()
        tensor = {"name": name, "shape": list(shape), "datatype": "FP32", "data": data}
        status, found = self.ask("POST", f"/v2/models/{model}/infer", {"inputs": [tensor]})
        if found is None:
            return status, None  # nothing listens just now
        return status, found["outputs"][0]["data"][0] if status == 200 else found["error"]

    def wait(self, question):
        deadline = time.monotonic() + WAIT_S
        while not question():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _take(self, steps, stops):
        try:
            self.wait(lambda: self.ask("GET", "/v2/health/live")[0] == 200)
            steps(self)
        except BaseException as failure:  # noqa: BLE001 - told by the main thread
            self.failures.append(failure)
        if stops or self.failures:
            os.kill(os.getpid(), signal.SIGTERM)


def last_level(site):
    """Return the first number of the newest result that is whole."""
    newest = site.lines.read_text().rpartition("\n")[0].rpartition("\n")[2]
    [tensor] = json.loads(newest)["tensors"]
    return np.ravel(tensor["data"])[0]


def count_loads(monkeypatch):
    """Return a list that gets the name of every engine that is loaded."""
    loaded, load = [], assembly.load_engine

    def counted(plan, *given):
        loaded.append(plan.entry.name)
        return load(plan, *given)

    monkeypatch.setattr(assembly, "load_engine", counted)
    return loaded


def test_without_sources_it_serves_until_it_is_stopped(site, port):
    add_times(site.store, "a", 2)
    add_chain(site.store, "b", "a", "a")

    def steps(running):
        running.wait(running.is_ready)
        assert running.infer("b", 3) == (200, 12)
        assert running.infer("gone")[0] == 404
        assert running.ask("GET", "/v2/models/a/stats")[1]["model_stats"][0]["inference_count"] == 2

    assert Running(site, port).run(steps) == ExitCode.OK


def test_a_signal_that_another_thread_takes_ends_the_service(site, port):
    add_times(site.store, "a", 2)
    running = Running(site, port)  # its thread takes what the main thread does not
    began = []

    def steps(running):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        running.wait(running.is_ready)
        time.sleep(0.2)  # the main thread waits for events
        began.append(time.monotonic())

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        assert running.run(steps) == ExitCode.OK
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert time.monotonic() - began[0] < 5  # its next statistics are due after 10 s


def test_grpc_answers_beside_http(site, port):
    grpc = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient[grpc]")
    add_times(site.store, "a", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]

    def steps(running):
        running.wait(running.is_ready)
        with grpc.InferenceServerClient(f"127.0.0.1:{other}") as client:
            wanted = grpc.InferInput("X", [1, SIDE], "FP32")
            wanted.set_data_from_numpy(np.ones((1, SIDE), np.float32))
            assert client.infer("a", [wanted]).as_numpy("Y")[0, 0] == 2
            assert client.is_server_ready()

    assert Running(site, port, rest=f"[serve.grpc]\nport = {other}\n").run(steps) == ExitCode.OK


@pytest.mark.parametrize("control", [True, False])
def test_grpc_has_a_control_of_its_own(site, port, control):
    grpc = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient[grpc]")
    add_times(site.store, "a", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]

    def steps(running):
        running.wait(running.is_ready)
        assert running.ask("POST", "/v2/repository/models/a/load", {})[0] == 403
        with grpc.InferenceServerClient(f"127.0.0.1:{other}") as client:
            if control:
                client.load_model("a")
            else:
                with pytest.raises(Exception, match="model control is off"):
                    client.load_model("a")
        assert running.infer("a")[0] == (200 if control else 404)

    rest = f"[serve.grpc]\nport = {other}\ncontrol = {str(control).lower()}\n"
    assert Running(site, port, 'mode = "explicit"', rest).run(steps) == ExitCode.OK


def test_frames_and_requests_of_one_model_share_its_engine_and_are_counted_together(site, port, monkeypatch):
    site.add("mean", store.mean_model())
    loaded = count_loads(monkeypatch)

    def steps(running):
        running.wait(running.is_ready)
        status, value = running.infer("mean", 7, shape=(2, 3, 8, 8), name="image")
        assert (status, value) == (200, 7)
        running.wait(lambda: site.lines.exists() and len(site.lines.read_text().splitlines()) == 2)
        page = running.ask("GET", "/metrics")[1].splitlines()
        assert 'nv_inference_count{model="mean",version="1"} 4' in page  # two frames, two rows
        assert 'nv_inference_request_success{model="mean",version="1"} 3' in page
        assert loaded == ["mean"]

    assert Running(site, port, rest=FINITE).run(steps) == ExitCode.OK


def test_a_source_that_ends_does_not_end_what_serves(site, port):
    site.add("mean", store.mean_model())

    def steps(running):
        running.wait(running.is_ready)
        running.wait(lambda: site.lines.exists() and len(site.lines.read_text().splitlines()) == 2)
        running.wait(running.service._line.assembly.have_all_ended)
        time.sleep(0.1)
        assert running.infer("mean", 7, shape=(1, 3, 8, 8), name="image") == (200, 7)

    assert Running(site, port, rest=FINITE).run(steps) == ExitCode.OK


SLOW_LOAD = """
    import pathlib, time

    class Model:
        def load(self, context):
            begun = pathlib.Path(context.folder, "begun")
            begun.write_text("")
            deadline = time.monotonic() + 15
            while not pathlib.Path(context.folder, "go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)

        def execute(self, inputs):
            return {"Y": inputs["X"]}
"""
PYTHON_CONFIG = f"""backend: "python" max_batch_size: 4
    input [{{ name: "X" data_type: TYPE_FP32 dims: [{SIDE}] }}]
    output [{{ name: "Y" data_type: TYPE_FP32 dims: [{SIDE}] }}]"""


def add_python(site, source, name="slow"):
    folder = write_model(site.store, textwrap.dedent(source), name=name).parent
    (folder / "config.pbtxt").write_text(PYTHON_CONFIG)
    return folder


def test_it_is_live_and_not_ready_while_it_loads_and_answers_what_is_there(site, port):
    add_times(site.store, "a", 2)
    add_times(site.store, "zebra", 2)
    folder = add_python(site, SLOW_LOAD)

    def steps(running):
        running.wait((folder / "begun").exists)
        assert not running.is_ready()
        assert running.infer("a") == (200, 2)
        assert running.infer("slow") == (503, "Model 'slow' is loading; ask again in a while.")
        assert running.ask("GET", "/v2/models/slow")[0] == 503
        assert running.ask("GET", "/v2/models/slow/ready")[0] == 400
        assert running.ask("GET", "/v2/models/zebra")[0] == 503  # its turn comes
        assert running.ask("GET", "/v2/models/gone")[0] == 404
        index = running.ask("POST", "/v2/repository/index")[1]
        assert {"name": "slow", "version": "1", "state": "LOADING"} in index
        (folder / "go").write_text("")
        running.wait(running.is_ready)
        assert running.infer("slow", 5) == (200, 5)

    assert Running(site, port).run(steps) == ExitCode.OK


def test_a_stop_during_a_load_does_not_wait_for_it(site, port):
    folder = add_python(site, SLOW_LOAD)
    stopped = []

    def steps(running):
        running.wait((folder / "begun").exists)
        stopped.append(time.monotonic())

    running = Running(site, port)
    try:
        assert running.run(steps) == ExitCode.OK
        assert time.monotonic() - stopped[0] < 8.0
    finally:
        (folder / "go").write_text("")


NEVER = """
    import pathlib, time

    class Model:
        def load(self, context):
            self.folder = pathlib.Path(context.folder)

        def execute(self, inputs):
            (self.folder / "begun").write_text("")
            while not (self.folder / "go").exists():
                time.sleep(0.01)
            return {"Y": inputs["X"]}
"""


def test_requests_that_still_waited_when_time_was_up_are_lost_work_too(site, port):
    folder = add_python(site, NEVER, "m")

    def steps(running):
        running.wait(lambda: running.is_ready() and running.service.is_ready())
        askers = [threading.Thread(target=running.infer, args=("m",)) for _ in range(3)]
        for asker in askers:
            asker.start()
        running.wait((folder / "begun").exists)
        running.wait(lambda: running.service._line._serving.core.statistics("m")[0].pending == 2)
        os.kill(os.getpid(), signal.SIGTERM)
        for asker in askers:
            asker.join(WAIT_S)
        (folder / "go").write_text("")  # the batch in flight still ends, but nobody hears of the others

    try:
        assert Running(site, port).run(steps, stops=False) == ExitCode.WORK_LOST
    finally:
        (folder / "go").write_text("")


def test_a_stop_between_the_steps_of_an_ensemble_lets_the_later_ones_run(site, port):
    folder = add_python(site, NEVER, "m")
    add_times(site.store, "last", 3)
    config = add_chain(site.store, "both", "m", "last") / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 4"))
    answers = []

    def steps(running):
        running.wait(lambda: running.is_ready() and running.service.is_ready())
        asker = threading.Thread(target=lambda: answers.append(running.infer("both", 2.0)))
        asker.start()
        running.wait((folder / "begun").exists)
        os.kill(os.getpid(), signal.SIGTERM)
        running.wait(lambda: running.service._line._serving.core._is_stopping)
        (folder / "go").write_text("")
        asker.join(WAIT_S)

    try:
        assert Running(site, port).run(steps, stops=False) == ExitCode.OK
    finally:
        (folder / "go").write_text("")
    assert answers == [(200, 6.0)]


@pytest.mark.parametrize("verb", ["stop", "load"])
def test_a_stop_during_a_load_that_a_client_asked_for(site, port, verb):
    folder = add_python(site, SLOW_LOAD)

    def steps(running):
        running.wait(running.is_ready)
        asker = threading.Thread(target=running.ask, args=("POST", "/v2/repository/models/slow/load", {}))
        asker.start()
        running.wait((folder / "begun").exists)
        if verb == "load":
            (folder / "go").write_text("")
        os.kill(os.getpid(), signal.SIGTERM)
        asker.join(WAIT_S)

    running = Running(site, port, 'mode = "explicit"', control=True)
    began = time.monotonic()
    try:
        assert running.run(steps, stops=False) == ExitCode.OK
        assert time.monotonic() - began < 12.0
    finally:
        (folder / "go").write_text("")


def test_a_model_that_must_be_there_ends_the_start_with_its_code(site, port):
    (add_times(site.store, "a", 2) / "1" / "model.onnx").write_bytes(b"no graph")
    running = Running(site, port, "exit_on_error = true")
    with pytest.raises(ModelError, match="not a usable ONNX file"):
        running.service.run()


def test_a_broken_model_does_not_keep_the_service_from_starting_and_a_reload_mends_it(site, port):
    file = add_times(site.store, "a", 2) / "1" / "model.onnx"
    file.write_bytes(b"no graph")
    add_times(site.store, "b", 3)

    def steps(running):
        running.wait(lambda: running.infer("b")[0] == 200)
        assert not running.is_ready()
        file.write_bytes(times(2))
        running.wait(lambda: running.service.is_ready())
        os.kill(os.getpid(), signal.SIGHUP)
        running.wait(running.is_ready)
        assert running.infer("a") == (200, 2)

    assert Running(site, port).run(steps) == ExitCode.OK


def test_changed_options_of_serve_are_followed_on_the_same_port(site, port):
    add_times(site.store, "a", 2)
    add_times(site.store, "b", 3)

    def steps(running):
        running.wait(running.is_ready)
        site.write(running.text('mode = "explicit"\nload = ["b"]'))
        os.kill(os.getpid(), signal.SIGHUP)
        running.wait(lambda: running.is_ready() and running.infer("a")[0] == 404)
        assert running.infer("b") == (200, 3)

    assert Running(site, port).run(steps) == ExitCode.OK


def test_a_changed_store_is_followed(site, port):
    add_times(site.store, "a", 2)
    add_times(site.folder / "other", "c", 5)

    def steps(running):
        running.wait(running.is_ready)
        path = site.write(running.text())
        path.write_text(path.read_text().replace('store = "store"', 'store = "other"'))
        os.kill(os.getpid(), signal.SIGHUP)
        running.wait(lambda: running.infer("c")[0] == 200)
        assert running.infer("a")[0] == 404

    assert Running(site, port).run(steps) == ExitCode.OK


def test_a_file_that_is_wrong_changes_nothing(site, port):
    add_times(site.store, "a", 2)

    def steps(running):
        running.wait(lambda: running.is_ready() and running.service.is_ready())
        site.write(running.text('mode = "explicit"\nload = ["nope"]'))
        os.kill(os.getpid(), signal.SIGHUP)
        running.wait(lambda: running.service._reload is None)
        time.sleep(0.2)
        assert running.infer("a") == (200, 2)

    assert Running(site, port).run(steps) == ExitCode.OK


@pytest.mark.parametrize("mode", ["none", "explicit"])
def test_a_model_of_frames_and_requests_is_loaded_again_for_both(site, port, mode):
    site.add("mean", store.mean_model())

    def steps(running):
        running.wait(running.is_ready)
        site.add("mean", store.mean_model(offset=100.0))
        assert running.ask("POST", "/v2/repository/models/mean/load", {})[0] == 200
        assert running.infer("mean", 7, shape=(1, 3, 8, 8), name="image") == (200, 107)
        running.wait(lambda: last_level(site) >= 100)

    serve = 'mode = "explicit"\nload = ["mean"]' if mode == "explicit" else ""
    assert Running(site, port, serve, SOURCE, control=True).run(steps) == ExitCode.OK


def test_what_a_client_loads_is_removed_when_the_service_stops(site, port, tmp_path, monkeypatch):
    place = tmp_path / "private"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    config = {"platform": "onnxruntime_onnx", "max_batch_size": 2}

    def steps(running):
        running.wait(running.is_ready)
        content = base64.b64encode(times(7)).decode()
        parameters = {"config": json.dumps(config), "file:1/model.onnx": content}
        path = "/v2/repository/models/new/load"
        assert running.ask("POST", path, {"parameters": parameters}) == (200, "")
        assert running.infer("new") == (200, 7)
        assert len(list(place.iterdir())) == 1

    assert Running(site, port, 'mode = "explicit"', control=True).run(steps) == ExitCode.OK
    assert list(place.iterdir()) == []


def test_a_device_that_is_lost_under_a_request_ends_the_process(site, port):
    source = """
    from edgert.errors import DeviceLostError

    class Model:
        def execute(self, inputs):
            raise DeviceLostError("The GPU has fallen off the bus.")
    """
    add_python(site, source, "m")

    def steps(running):
        running.wait(lambda: running.is_ready() and running.service.is_ready())
        assert running.infer("m")[0] == 500

    running = Running(site, port)
    assert running.run(steps, stops=False) == ExitCode.DEVICE
    assert running.service.is_device_lost


class TestCheck:
    def problems(self, site, serve):
        text = f"[http]\nport = 0\n[serve]\n{serve}"
        return [str(problem) for problem in PipelineFile.load(site.write(text)).problems(opens_engines=True)]

    def test_a_store_that_is_right_has_no_problem(self, site):
        add_times(site.store, "a", 2)
        add_chain(site.store, "b", "a")
        add_python(site, "class Model:\n    def execute(self, inputs):\n        return {}\n")
        assert self.problems(site, "") == []

    def test_every_broken_model_is_told(self, site):
        (add_times(site.store, "a", 2) / "1" / "model.onnx").write_bytes(b"no graph")
        (add_times(site.store, "b", 2) / "config.pbtxt").write_text("max_batch_size: [")
        add_chain(site.store, "c", "gone")
        text = (add_times(site.store, "d", 2) / "config.pbtxt").read_text()
        (site.store / "d" / "config.pbtxt").write_text(text.replace('name: "Y"', 'name: "Z"'))
        add_python(site, "class Other: pass", "e")
        told = self.problems(site, "")
        assert len(told) == 5
        for found, part in zip(
            told,
            (
                "not a usable ONNX",
                "max_batch_size",
                "output[0].name: found 'Z'",
                "neither class",
                "found 'gone'",
            ),
            strict=True,
        ):
            assert part in found

    def test_only_what_is_served_from_the_start_is_looked_at(self, site):
        (add_times(site.store, "a", 2) / "1" / "model.onnx").write_bytes(b"no graph")
        add_times(site.store, "b", 2)
        assert self.problems(site, 'mode = "explicit"\nload = ["b"]') == []
        assert len(self.problems(site, 'mode = "explicit"\nload = ["*"]')) == 1

    @pytest.mark.parametrize(
        ("serve", "part"),
        [
            ('load = ["a"]', 'serve.load: given with mode = "none"'),
            ('mode = "explicit"\nload = ["x"]', "serve.load: 'x' is not in the store; there is a"),
            ('token = "gone"', "serve.token = 'gone': there is no file"),
            ('tls = { certificate = "c", key = "k" }', "serve.tls.certificate = 'c': there is no file"),
        ],
    )
    def test_wrong_options_are_told(self, site, serve, part):
        add_times(site.store, "a", 2)
        [problem] = self.problems(site, serve)
        assert part in problem

    def test_a_broken_model_of_requests_is_no_reason_not_to_start(self, site):
        (add_times(site.store, "a", 2) / "1" / "model.onnx").write_bytes(b"no graph")
        PipelineFile.load(site.write("[http]\nport = 0\n[serve]\n")).check()

    def test_something_has_to_listen(self, site):
        add_times(site.store, "a", 2)
        with pytest.raises(ConfigError, match="nothing would listen"):
            PipelineFile.load(site.write("[serve]\n")).check()

    @pytest.mark.parametrize(
        ("group", "part"),
        [
            ("{ kind: KIND_CPU }", "instance_group[0].kind: found KIND_CPU, expected KIND_GPU"),
            ("{ count: 0 }", "instance_group[0].count: found 0, expected 1 or more"),
        ],
    )
    def test_instances_that_cannot_be_had_are_told(self, site, group, part):
        folder = site.store / "a"
        (folder / "1").mkdir(parents=True)
        (folder / "1" / "model.plan").write_bytes(b"")
        (folder / "config.pbtxt").write_text(f'platform: "tensorrt_plan" instance_group [{group}]')
        [problem] = self.problems(site, "")
        assert part in problem
