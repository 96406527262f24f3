"""`edgert run` as a process: signals, exit codes, log, report, HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgert.client import Client, RequestError
from edgert.exit_codes import ExitCode
from tests.fakes import store
from tests.fakes.process import WAIT_S, Service, edgert
from tests.fakes.store import EXACT, Site, noise

pytestmark = pytest.mark.system

DARK, BRIGHT = np.full((8, 8, 3), 40, np.uint8), np.full((8, 8, 3), 250, np.uint8)
HTTP = "[http]\nport = 0\n"
JSON_LOG = '[service]\nlog = "json"\n'


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def endless(model="noop"):
    return f'[sources.s]\nuri = "{noise(2)}"\nloop = true\nfps = 50\nmodels = ["{model}"]\n'


def requests(site, *models, options=""):
    """Return a request source's uri and its table."""
    uri = f"router+bind:ipc://{site.folder}/in"
    names = ", ".join(f'"{model}"' for model in models)
    return uri, f'[sources.in]\nuri = "{uri}"\nmodels = [{names}]\n{options}'


def samples(service):
    """Return the metrics as {(name, values of its labels): value}; labels in the order of their names.

    A counter's name is without `_total`, which the parser adds where it is missing.
    """
    status, body = service.get("/metrics")
    assert status == 200
    found = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    return {
        (
            sample.name.removesuffix("_total"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for sample in found
    }


def wait_metric(service, key, value):
    """Ask for metrics until one has a value."""
    deadline = time.monotonic() + WAIT_S
    while (found := samples(service).get(key, 0)) < value:
        assert time.monotonic() < deadline, f"{key} is {found}, not {value}."


# Ends


def test_sources_that_end_end_the_process_with_every_result(site):
    site.add("mean", store.mean_model())
    text = f'[sources.a]\nuri = "{noise(30)}"\nmodels = ["mean"]\n'
    text += f'[sources.b]\nuri = "{noise(20)}"\nmodels = ["mean"]\n'
    file = site.write(text + '[sinks.lines]\ntype = "lines"\n')
    with Service(file, "--report", site.folder / "report.json") as service:
        assert service.wait() == ExitCode.OK
        results = [json.loads(line) for line in service.output]
        assert "every source has ended" in service.log
    assert sorted((result["source"], result["seq"]) for result in results) == [
        *(("a", seq) for seq in range(30)),
        *(("b", seq) for seq in range(20)),
    ]
    report = json.loads((site.folder / "report.json").read_text())
    assert report["sinks"]["lines"]["sent"] == 50
    assert report["sources"]["a"]["models"]["mean"]["published"] == 30
    assert report["models"]["mean"]["versions"][0]["frames"] == 50


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_signal_drains_and_every_request_in_flight_is_answered(site, number):
    site.add("slow", store.slow_model(3))
    uri, table = requests(site, "slow", options="slots = 8\n")
    with Service(site.write(table + HTTP + "[service]\ndrain_s = 25\n")) as service, Client(uri) as client:
        sent = [client.send(DARK) for _ in range(6)]
        wait_metric(service, ("edgert_frames_captured", "in"), 6)
        service.signal(number)
        answers = [client._receive()[0] for _ in sent]
        assert service.wait() == ExitCode.OK
    assert [(answer["id"], answer["status"]) for answer in answers] == [(number, "ok") for number in sent]


def test_what_does_not_fit_into_the_drain_time_is_refused_and_the_exit_code_says_so(site):
    site.add("slow", store.slow_model(8))
    uri, table = requests(site, "slow")
    with Service(site.write(table + HTTP + "[service]\ndrain_s = 0\n")) as service, Client(uri) as client:
        sent = [client.send(DARK) for _ in range(5)]
        wait_metric(service, ("edgert_frames_captured", "in"), 5)
        service.signal(signal.SIGTERM)
        answers = {}
        while "closed_error" not in answers.values():
            header, _ = client._receive()
            answers[header["id"]] = header["status"]
        assert set(answers.values()) <= {"ok", "closed_error"}
        assert service.wait() == ExitCode.WORK_LOST
        assert "not all frames were answered within drain_s" in service.log
    assert len(sent) == 5


def test_second_signal_forces(site):
    site.add("slow", store.slow_model(20))
    uri, table = requests(site, "slow", options="slots = 16\n")
    with Service(site.write(table + HTTP + "[service]\ndrain_s = 600\n")) as service, Client(uri) as client:
        for _ in range(16):
            client.send(DARK)
        wait_metric(service, ("edgert_frames_captured", "in"), 16)
        service.signal(signal.SIGTERM)
        service.wait_log("stopping: asked to")
        service.signal(signal.SIGTERM)
        assert service.wait() == ExitCode.WORK_LOST


def test_ctrl_c_leaves_no_process_no_thread_and_no_socket_file(site):
    site.add_noop()
    _, table = requests(site, "noop")
    with Service(site.write(table + endless() + HTTP)) as service:
        service.wait_ready()
        assert (site.folder / "in").is_socket()
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text()
        os.killpg(service.pid, signal.SIGINT)
        assert service.wait() == ExitCode.OK
        assert children == ""
        with pytest.raises(ProcessLookupError):
            os.killpg(service.pid, 0)
    assert [path.name for path in site.folder.iterdir() if path.is_socket()] == []
    assert "Traceback" not in service.log


def test_tap_leaves_no_socket_file(site):
    site.add_noop()
    tap = f'[sinks.tap]\ntype = "tap"\nendpoint = "pub+bind:ipc://{site.folder}/tap"\n'
    with Service(site.write(endless() + tap)) as service:
        service.wait_ready()
        assert service.stop() == ExitCode.OK
    assert not (site.folder / "tap").exists()


def test_thread_that_fails_ends_the_process_instead_of_leaving_it_dumb(site):
    site.add_noop()
    prelude = "import edgert.pipeline.pipeline as p; p.Pipeline._publish = lambda *_: 1 / 0"
    with Service(site.write(endless() + JSON_LOG), prelude=prelude) as service:
        assert service.wait() == ExitCode.BUG
        [told] = [event for event in service.events() if event["level"] == "critical"]
    assert told["message"] == "thread decode ended by an error that edgert did not foresee"
    assert "ZeroDivisionError" in told["traceback"]


def test_stop_while_a_source_never_answers_is_a_stop_all_the_same(site):
    """A camera that accepts the connection and says nothing must not hold up the end."""
    site.add_noop()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        uri = f"rtsp://127.0.0.1:{server.getsockname()[1]}/silent"
        text = f'[sources.camera]\nuri = "{uri}"\nmodels = ["noop"]\nopen_timeout_s = 1\n'
        with Service(site.write(text)) as service:
            service.wait_ready()
            assert service.stop() == ExitCode.OK


def test_stop_while_models_are_being_loaded_does_not_wait_for_them(site):
    site.add("slow", store.slow_model(400))
    with Service(site.write(endless("slow") + "[service]\ndrain_s = 0.1\n")) as service:
        service.wait_log("model slow is LOADING")
        assert service.stop() == ExitCode.OK
        assert "stopping before the models are loaded" in service.log
        assert "ready after" not in service.log


# Reload


def test_hup_reloads_with_the_overrides_of_the_command_line(site):
    site.add("mean", store.mean_model(offset=1000))
    uri, table = requests(site, "mean")
    file = site.write(table.replace('"mean"', '"absent"'))
    with Service(file, "--set", 'sources.in.models=["mean"]') as service, Client(uri) as client:
        assert client.infer(DARK)["version"] == 1
        site.add("mean", store.mean_model(offset=2000), version=2)
        service.signal(signal.SIGHUP)
        service.wait_log("model mean version 1 freed")
        assert client.infer(DARK)["version"] == 2
        assert service.stop() == ExitCode.OK


def test_hup_reloads_what_it_can_and_goes_on_with_the_rest(site):
    site.add("broken", store.mean_model())
    site.add("mean", store.mean_model())
    uri, table = requests(site, "broken", "mean")
    with Service(site.write(table)) as service, Client(uri) as client:
        service.wait_ready()
        site.add("broken", b"no engine", version=2)
        site.add("mean", store.mean_model(), version=2)
        service.signal(signal.SIGHUP)
        service.wait_log("model broken is not reloaded, what was loaded goes on: .*not a usable ONNX file")
        service.wait_log("model mean version 1 freed")
        assert client.infer(DARK, model="broken")["version"] == 1
        assert client.infer(DARK, model="mean")["version"] == 2
        assert service.stop() == ExitCode.OK


# Exit codes


def test_exit_code_of_a_missing_file_and_of_a_wrong_key(site):
    done = edgert("run", site.folder / "absent.toml")
    assert (done.returncode, done.stderr) == (2, f"edgert: {site.folder}/absent.toml: no such file\n")
    site.add_noop()
    done = edgert("run", site.write(endless() + "[service]\nlogg = 1\n"))
    assert done.returncode == 2
    assert "service: unknown key 'logg'; did you mean 'log'?" in done.stderr


def test_errors_that_end_the_process_are_lines_of_the_log_in_its_form(site):
    site.add("mean", b"no engine")
    with Service(site.write(endless("mean") + JSON_LOG)) as service:
        assert service.wait() == ExitCode.MODEL
        last = service.events()[-1]
    assert (last["level"], last["part"]) == ("critical", "cli")
    assert "not a usable ONNX file" in last["message"]


def test_port_that_is_taken_is_a_configuration_error(site):
    site.add_noop()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with Service(site.write(endless() + f"[http]\nport = {port}\n" + JSON_LOG)) as service:
            assert service.wait() == ExitCode.CONFIG
            message = service.events()[-1]["message"]
    assert message.startswith(f"http: cannot listen on 127.0.0.1:{port}: ")
    assert message.endswith("Choose another http.port.")


def test_memory_budget_that_is_too_small_is_the_device_s_fault(site):
    site.add("mean", store.mean_model(), config="max_batch_size: 1024\ndynamic_batching { }\n")
    with Service(site.write(endless("mean") + "[service]\nmemory_mb = 1\n")) as service:
        assert service.wait() == ExitCode.DEVICE
        assert "Raise the memory budget" in service.log


def test_source_that_cannot_be_as_it_is_written_ends_with_its_error_s_code(site):
    site.add_noop()
    uri = "replay:noise?width=16384&height=16384&frames=1000"
    with Service(site.write(f'[sources.s]\nuri = "{uri}"\nmodels = ["noop"]\n')) as service:
        assert service.wait() == ExitCode.CONFIG
        assert "needs more than 2048 MiB of memory" in service.log


def test_report_that_cannot_be_written_is_refused_before_the_work(site):
    site.add_noop()
    with Service(site.write(endless()), "--report", site.folder / "absent" / "report.json") as service:
        assert service.wait() == ExitCode.CONFIG
        assert "there is no folder" in service.log
        assert "ready" not in service.log


# Log


def test_json_log_has_one_event_a_line(site):
    site.add("odd", store.undecodable_model(), settings=EXACT + '[decode]\nkind = "ssd"\n')
    uri, table = requests(site, "odd")
    with Service(site.write(table + '[service]\nlog = "json"\nlog_level = "debug"\n' + HTTP)) as service:
        with Client(uri) as client:
            with pytest.raises(RequestError, match="cannot be decoded"):
                client.infer(BRIGHT)
            client.infer(DARK)
        service.get("/v2/health/live")
        assert service.stop() == ExitCode.OK
        events = service.events()
    assert {frozenset(event) for event in events} == {frozenset({"utc", "level", "part", "message"})}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["utc"]) for event in events)
    assert {"info", "warning", "debug"} <= {event["level"] for event in events}
    said = [event["message"] for event in events]
    assert any("model odd version 1 loaded" in message for message in said)
    assert any(message.startswith("ready after") for message in said)


def test_engine_s_library_writes_nothing_between_the_lines_of_the_log(site):
    site.add("picky", store.failing_model())
    uri, table = requests(site, "picky")
    with Service(site.write(table + JSON_LOG)) as service:
        with Client(uri) as client, pytest.raises(RequestError, match="out of data bounds"):
            client.infer(BRIGHT)
        assert service.stop() == ExitCode.OK
        assert service.events()


def test_text_log_says_what_happens_in_a_line_each(site):
    site.add_noop()
    with Service(site.write(endless())) as service:
        service.wait_ready()
        assert service.stop() == ExitCode.OK
        for line in service.lines:
            assert re.fullmatch(r"\d\d:\d\d:\d\d (info   |warning) \w+: \S.*", line), line


# HTTP


def test_health_and_metrics_tell_what_happened(site):
    site.add("mean", store.mean_model(), version=3)
    site.add("picky", store.failing_model())
    uri, table = requests(site, "mean", "picky")
    with Service(site.write(table + HTTP)) as service:
        service.wait_ready()
        assert service.get("/v2/health/live") == (200, b"")
        assert service.get("/v2/health/ready") == (200, b"")
        with Client(uri) as client:
            for _ in range(5):
                client.infer(DARK, model="mean")
            for _ in range(2):
                with pytest.raises(RequestError):
                    client.infer(BRIGHT, model="picky")
            client.infer(DARK, model="picky")
            with pytest.raises(RequestError, match="names model none"):
                client.infer(DARK)
        found = samples(service)
        status, index = service.get("/v2/repository/index", "POST")
        assert service.stop() == ExitCode.OK
    expected = {
        ("nv_inference_request_success", "mean", "3"): 5,
        ("nv_inference_request_failure", "mean", "BACKEND", "3"): 0,
        ("nv_inference_count", "mean", "3"): 5,
        ("nv_inference_exec_count", "mean", "3"): 5,
        ("nv_inference_request_success", "picky", "1"): 1,
        ("nv_inference_request_failure", "picky", "BACKEND", "1"): 2,
        ("nv_inference_count", "picky", "1"): 1,
        ("nv_inference_exec_count", "picky", "1"): 3,
        ("edgert_frames_captured", "in"): 9,
        ("edgert_frames_refused", "model_error", "in"): 1,
        ("edgert_results_published", "mean", "in"): 5,
        ("edgert_frames_dropped", "picky", "model_error", "in"): 2,
        ("edgert_latency_seconds_count", "mean", "in"): 5,
        ("edgert_source_online", "in"): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    durations = [found[f"nv_inference_{part}_duration_us", "mean", "3"] for part in parts]
    assert min(durations) > 0
    assert found["nv_inference_request_duration_us", "mean", "3"] == pytest.approx(sum(durations))
    assert found["edgert_latency_seconds_sum", "mean", "in"] * 1e6 >= sum(durations) * 0.5
    assert status == 200
    assert json.loads(index) == [
        {"name": "mean", "version": "3", "state": "READY", "reason": ""},
        {"name": "picky", "version": "1", "state": "READY", "reason": ""},
    ]


def test_names_of_the_inference_server_have_no_suffix(site):
    site.add_noop()
    with Service(site.write(endless() + HTTP)) as service:
        service.wait_ready()
        _, body = service.get("/metrics")
        assert service.stop() == ExitCode.OK
    lines = [line for line in body.decode().splitlines() if "nv_inference" in line]
    assert "# TYPE nv_inference_count counter" in lines
    assert not [line for line in lines if "_total" in line]


def test_models_are_changed_over_http_only_where_that_is_allowed(site):
    site.add_noop()
    file = site.write(endless() + HTTP)
    with Service(file) as service:
        service.wait_ready()
        status, body = service.get("/v2/repository/models/noop/unload", "POST")
        assert (status, "http.control = true" in json.loads(body)["error"]) == (403, True)
        assert service.get("/v2/health/ready")[0] == 200
        assert service.stop() == ExitCode.OK


def test_models_are_unloaded_and_loaded_over_http(site):
    site.add_noop("a model, 50 % off")
    port = _free_port()
    file = site.write(endless("a model, 50 % off") + f"[http]\nport = {port}\ncontrol = true\n")
    with Service(file) as service:
        service.wait_ready()
        unloaded = edgert("models", file, "--unload", "a model, 50 % off")
        assert (unloaded.returncode, unloaded.stdout) == (0, "a model, 50 % off: unloaded\n")
        assert service.get("/v2/health/ready")[0] == 503
        assert service.get("/v2/health/live")[0] == 200
        assert json.loads(service.get("/v2/repository/index")[1])[0]["state"] == "UNAVAILABLE"
        loaded = edgert("models", file, "--load", "a model, 50 % off")
        assert (loaded.returncode, loaded.stdout) == (0, "a model, 50 % off: loaded\n")
        assert service.get("/v2/health/ready")[0] == 200
        absent = edgert("models", file, "--load", "cat")
        assert (absent.returncode, absent.stderr) == (3, f"edgert: Model 'cat' is in no source of {file}.\n")
        assert service.stop() == ExitCode.OK


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/v2/nothing", 404), ("PUT", "/metrics", 501), ("GET", "/metrics?x=1", 200)],
)
def test_other_paths_and_methods_are_refused(shared, method, path, status):
    assert shared.get(path, method)[0] == status


def test_clients_that_misbehave_do_not_stop_the_front(shared):
    host, port = re.fullmatch(r"http://(.*):(\d+)", shared.url()).groups()
    for sent in (
        b"\0\1\2",
        b"GET /metrics HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    ):
        with closing(socket.create_connection((host, int(port)))) as client:
            client.sendall(sent)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # end with a reset
    for length, status in (("x", 413), ("99999999", 413), ("-1", 413)):
        connection = http.client.HTTPConnection(host, int(port), timeout=WAIT_S)
        with closing(connection):
            connection.putrequest("POST", "/v2/repository/index")
            connection.putheader("Content-Length", length)
            connection.endheaders()
            assert connection.getresponse().status == status
    assert shared.get("/v2/health/live")[0] == 200
    assert "Traceback" not in shared.log


def test_metrics_are_whole_while_everything_changes(shared):
    problems = []

    def ask():
        for _ in range(30):
            status, _ = shared.get("/metrics")
            if status != 200:
                problems.append(status)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(10):
        shared.signal(signal.SIGHUP)
    for asker in askers:
        asker.join(WAIT_S)
    assert problems == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A service that several tests ask and none changes."""
    site = Site(tmp_path_factory.mktemp("shared"))
    site.add_noop()
    with Service(site.write(endless() + HTTP)) as service:
        service.wait_ready()
        yield service
        assert service.stop() == ExitCode.OK


def _free_port():
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        return probe.getsockname()[1]
