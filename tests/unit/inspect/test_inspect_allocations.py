"""`edgert inspect --allocations`: the other end of `/v1/allocations`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import msgspec
import pytest

from edgert.device.allocations import AllocationReport, report_allocations
from edgert.device.memory import AllocationEvent, Budget, Usage
from edgert.errors import ConfigError
from edgert.exit_codes import ExitCode
from edgert.inspect import inspect_allocations
from edgert.inspect.allocations import allocation_lines
from edgert.serve.health import HttpServer

REPORT = AllocationReport(
    mono_ns=10_000_000_000,
    used_bytes=6_220_800,
    peak_bytes=8_388_608,
    limit_bytes=16 << 20,
    owners={
        "model coco": Usage(0, 2_097_152, 0),
        "": Usage(100, 100, 1),
        "source door": Usage(6_220_700, 6_220_700, 4),
    },
    events=[
        AllocationEvent(1_000_000_000, "source door", "mapped", 1_555_200),
        AllocationEvent(7_500_000_000, "model coco", "device", 2_097_152),
        AllocationEvent(9_999_000_000, "model coco", "device", -2_097_152),
        AllocationEvent(10_000_000_000, "", "", 100),
    ],
)


class Backend:
    def __init__(self, budget):
        self._budget = budget

    def allocations(self):
        return msgspec.to_builtins(report_allocations(self._budget))


@pytest.fixture
def url(monkeypatch):
    monkeypatch.setattr("edgert.serve.pool.PooledServer.timeout", 0.005)
    budget = Budget()
    budget.take(2048, "source door", "pinned")
    server = HttpServer("127.0.0.1", 0, Backend(budget), control=False)
    yield server.open()
    server.close()


@contextmanager
def other_server(status, body):
    """Serve one request as somebody else would."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join()


def test_owners_come_first_by_what_they_hold_then_the_newest_events_with_their_age():
    assert allocation_lines(REPORT, 3) == [
        "used 5.9 MiB of 16.0 MiB, at most 8.0 MiB so far",
        "owner        used     peak     count",
        "source door  5.9 MiB  5.9 MiB  4",
        "(unnamed)    100 B    100 B    1",
        "model coco   0 B      2.0 MiB  0",
        "",
        "when      size      kind    owner",
        "-2.500 s  +2.0 MiB  device  model coco",
        "-0.001 s  -2.0 MiB  device  model coco",
        "0.000 s   +100 B    ?       (unnamed)",
    ]


def test_without_limit_and_events_there_is_less_to_say():
    lines = allocation_lines(msgspec.structs.replace(REPORT, limit_bytes=0, events=[]), 3)
    assert lines[0] == "used 5.9 MiB, at most 8.0 MiB so far"
    assert len(lines) == 5
    assert allocation_lines(REPORT, 0) == allocation_lines(msgspec.structs.replace(REPORT, events=[]), 3)


def test_a_running_service_is_asked(url, capsys):
    assert inspect_allocations(url) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["source", "door", "2.0", "KiB", "2.0", "KiB", "1"]
    assert lines[-1].endswith("+2.0 KiB  pinned  source door")
    assert lines[-1].startswith("-0.")


def test_the_scheme_may_be_left_out_and_a_path_is_ignored(url, capsys):
    assert inspect_allocations(url.removeprefix("http://") + "/metrics") == ExitCode.OK
    assert "source door" in capsys.readouterr().out


def test_json_is_the_whole_answer(url, capsys):
    assert inspect_allocations(url, events=0, as_json=True) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    assert report["owners"]["source door"]["used_bytes"] == 2048
    assert report["events"][0]["kind"] == "pinned"


@pytest.mark.parametrize("wrong", ["ftp://127.0.0.1:1", "http://", "http://127.0.0.1:port", "[::1"])
def test_what_is_no_url_is_refused(wrong):
    with pytest.raises(ConfigError, match="expected the service's URL"):
        inspect_allocations(wrong)


def test_nobody_there_is_told_with_what_to_do(url):
    port = int(url.rpartition(":")[2])
    with pytest.raises(ConfigError, match=r"No service answers at .*Is `edgert run` running"):
        inspect_allocations(f"127.0.0.2:{port}")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"{}", "answered 404 to /v1/allocations"),
        (200, b"<html>", "does not answer as edgert does"),
        (200, b"{}", "does not answer as edgert does"),
    ],
)
def test_somebody_else_there_is_told(status, body, said):
    with other_server(status, body) as url, pytest.raises(ConfigError, match=said):
        inspect_allocations(url)
