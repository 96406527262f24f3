"""The HTTP front alone, with a stand-in for the service."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import ExitStack, closing

import msgspec
import pytest

from edgert.device.allocations import AllocationReport, report_allocations
from edgert.device.memory import Budget, Usage
from edgert.errors import BusyError, ConfigError, ModelError
from edgert.serve.health import HttpServer
from edgert.serve.pool import THREADS
from tests.fakes.report import make_report

WAIT_S = 10.0


class Backend:
    """Remembers what it was asked; `failure` is raised by load and unload."""

    def __init__(self):
        self.ready = True
        self.asked = []
        self.failure = None

    def is_ready(self):
        return self.ready

    def report(self):
        return make_report()

    def index(self):
        return [{"name": "coco", "version": "3", "state": "READY", "reason": ""}]

    def allocations(self):
        budget = Budget(1000)
        budget.take(300, "source door", "mapped")
        return msgspec.to_builtins(report_allocations(budget))

    def load(self, model):
        self._change("load", model)

    def unload(self, model):
        self._change("unload", model)

    def _change(self, verb, model):
        self.asked.append((verb, model))
        if self.failure:
            raise self.failure


@pytest.fixture(autouse=True)
def quick_close(monkeypatch):
    monkeypatch.setattr("edgert.serve.pool.PooledServer.timeout", 0.005)


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def server(backend):
    server = HttpServer("127.0.0.1", 0, backend, control=True)
    server.address = server.open().removeprefix("http://")
    yield server
    server.close()


def ask(server, path, method="GET", **options):
    with closing(http.client.HTTPConnection(server.address, timeout=WAIT_S)) as connection:
        connection.request(method, path, **options)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_live_and_ready(server, backend):
    assert ask(server, "/v2/health/live") == (200, b"")
    assert ask(server, "/v2/health/ready") == (200, b"")
    backend.ready = False
    assert ask(server, "/v2/health/live") == (200, b"")
    assert ask(server, "/v2/health/ready") == (503, b"")


def test_metrics(server):
    status, body = ask(server, "/metrics")
    assert status == 200
    assert b'nv_inference_count{model="coco",version="3"} 9' in body


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_index(server, backend, method):
    status, body = ask(server, "/v2/repository/index", method)
    assert (status, json.loads(body)) == (200, backend.index())


def test_allocations_are_told_as_they_are_read_again(server):
    status, body = ask(server, "/v1/allocations")
    report = msgspec.json.decode(body, type=AllocationReport)
    assert (status, report.limit_bytes, report.used_bytes) == (200, 1000, 300)
    assert report.owners == {"source door": Usage(300, 300, 1)}
    [event] = report.events
    assert (event.owner, event.kind, event.size_bytes) == ("source door", "mapped", 300)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_models_are_changed(server, backend, verb):
    assert ask(server, f"/v2/repository/models/coco/{verb}", "POST") == (200, b"{}")
    assert ask(server, f"/v2/repository/models/a%20b%3F/{verb}", "POST") == (200, b"{}")
    assert backend.asked == [(verb, "coco"), (verb, "a b?")]


@pytest.mark.parametrize("failure", [ModelError("broken"), ConfigError("broken"), BusyError("broken")])
def test_change_that_is_refused_says_why(server, backend, failure):
    backend.failure = failure
    assert ask(server, "/v2/repository/models/coco/load", "POST") == (400, b'{"error": "broken"}')


def test_without_leave_nothing_is_changed(backend):
    server = HttpServer("127.0.0.1", 0, backend, control=False)
    server.address = server.open().removeprefix("http://")
    try:
        assert ask(server, "/v2/repository/models/coco/load", "POST")[0] == 403
        assert ask(server, "/v2/repository/index", "POST")[0] == 200
    finally:
        server.close()
    assert backend.asked == []


@pytest.mark.parametrize(
    "path", ["/", "/v2", "/metrics/", "/v2/repository/models/coco/load", "/v2/health/live/x"]
)
def test_other_paths_are_not_found(server, path):
    status, body = ask(server, path)
    assert (status, json.loads(body)) == (404, {"error": f"unknown path {path}"})


@pytest.mark.parametrize(
    "path", ["/v2/repository/models/a/b/load", "/v2/repository/models//load", "/metrics"]
)
def test_other_posts_are_not_found(server, backend, path):
    assert ask(server, path, "POST")[0] == 404
    assert backend.asked == []


def test_body_is_bounded(server, backend):
    assert ask(server, "/v2/repository/index", "POST", body=b"x" * 65_537)[0] == 413
    assert ask(server, "/v2/repository/index", "POST", body=b"x" * 1000)[0] == 200


def test_fault_of_the_service_is_logged_and_the_next_request_is_answered(
    server, backend, monkeypatch, caplog
):
    monkeypatch.setattr(backend, "is_ready", lambda: 1 / 0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server, "/v2/health/ready")
    assert ask(server, "/v2/health/live")[0] == 200
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.exc_info[0] is ZeroDivisionError


def test_client_that_goes_away_is_nobody_s_fault(server, backend, monkeypatch, caplog, capfd):
    def leave():
        raise ConnectionResetError("the client has gone")

    monkeypatch.setattr(backend, "is_ready", leave)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(server, "/v2/health/ready")
    assert ask(server, "/v2/health/live")[0] == 200
    assert [record for record in caplog.records if record.levelno >= 30] == []
    assert capfd.readouterr().err == ""


def test_silent_clients_do_not_hold_up_the_others(server):
    host, port = server.address.split(":")
    with ExitStack() as silent:
        for _ in range(THREADS - 1):
            silent.enter_context(closing(socket.create_connection((host, int(port)))))
        assert ask(server, "/v2/health/live")[0] == 200


def test_request_that_arrives_too_slowly_is_given_up(backend, monkeypatch):
    monkeypatch.setattr("edgert.serve.pool.REQUEST_S", 0.05)
    with closing(HttpServer("127.0.0.1", 0, backend, control=False)) as server:
        host, port = server.open().removeprefix("http://").split(":")
        with closing(socket.create_connection((host, int(port)), WAIT_S)) as client:
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nX-Slow: ")
            assert client.recv(1) == b""  # the server has hung up


def test_web_pages_do_not_change_models(server, backend):
    path, headers = "/v2/repository/models/coco/unload", {"Origin": "http://evil.example"}
    assert ask(server, path, "POST", headers=headers)[0] == 403
    assert backend.asked == []


def test_address_that_is_taken_is_a_configuration_error(server, backend):
    port = int(server.address.split(":")[1])
    with pytest.raises(
        ConfigError, match=f"http: cannot listen on 127.0.0.1:{port}: .* Choose another http.port"
    ):
        HttpServer("127.0.0.1", port, backend, control=False).open()


def test_address_that_is_not_here_is_a_configuration_error(backend):
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:1"):
        HttpServer("192.0.2.1", 1, backend, control=False).open()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_ipv6(backend):
    server = HttpServer("::1", 0, backend, control=False)
    try:
        server.address = server.open().removeprefix("http://")
    except ConfigError as error:
        pytest.skip(f"no IPv6 on loopback: {error}")
    assert server.address.startswith("[::1]:")
    try:
        assert ask(server, "/v2/health/live")[0] == 200
    finally:
        server.close()


def test_opening_asks_no_name_server(backend, monkeypatch):
    monkeypatch.setattr(socket, "getfqdn", lambda *_: pytest.fail("the host's name was looked up"))
    server = HttpServer("127.0.0.1", 0, backend, control=False)
    server.open()
    server.close()


def test_closing_what_is_not_open_does_nothing(backend):
    HttpServer("127.0.0.1", 0, backend, control=False).close()
