"""What clients of HTTP see while the front stops: answers and refusals, and no connection that breaks."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time

import numpy as np
import pytest

from edgert.serve.http.connection import STOP_GRACE_S
from edgert.serve.options import TlsOptions
from tests.fakes.broker import Certificates
from tests.fakes.http_front import WAIT_S, HttpSite, binary_request, request

ARRAY = np.zeros((1, 16), np.float32)
INFER = binary_request("identity", ARRAY)
STOPPING = "The server is stopping."


@contextlib.contextmanager
def stopping(site, timeout_s=WAIT_S):
    """Let the front stop meanwhile, and see that it has."""
    stopper = threading.Thread(target=site.front.close, args=[timeout_s])
    connections = site.http._site.connections
    stopper.start()
    deadline_s = time.monotonic() + WAIT_S
    while not connections.is_stopping:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    yield
    stopper.join(2 * WAIT_S)
    assert not stopper.is_alive()


def ask_until_told(client, answers, is_busy):
    """Ask again and again until an answer says that it is the last."""
    while True:
        client.send(INFER)
        answer = client.answer()
        answers.append(answer)
        is_busy.release()
        if answer.headers.get("connection") == "close":
            break
    assert client.socket.recv(1) == b""  # a reset would raise


def test_clients_that_ask_all_the_time_are_told_and_none_is_reset():
    is_busy, faults = threading.Semaphore(0), []

    def loop(client, answers):
        try:
            ask_until_told(client, answers, is_busy)
        except (OSError, AssertionError) as error:
            faults.append(error)

    with HttpSite() as site, contextlib.ExitStack() as stack:
        asked = [(stack.enter_context(site.client()), []) for _ in range(4)]
        threads = [threading.Thread(target=loop, args=pair) for pair in asked]
        for thread in threads:
            thread.start()
        for _ in range(40):
            assert is_busy.acquire(timeout=WAIT_S)
        with stopping(site):
            for thread in threads:
                thread.join(WAIT_S)
    assert not faults
    for _, answers in asked:
        *before, last = answers
        assert {answer.status for answer in before} == {200}
        assert last.status == 200 or (last.status, last.error) == (503, STOPPING)


def test_a_request_on_its_way_is_refused_and_said_why():
    with HttpSite() as site, site.client() as client:
        assert client.ask("GET", "/v2").status == 200
        with stopping(site):
            answer = client.ask("GET", "/v2")
            assert (answer.status, answer.error) == (503, STOPPING)
            assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
            assert client.socket.recv(1) == b""
        assert site.http.counts.snapshot() == {"stopping": 1}


def test_a_request_on_its_way_through_tls_is_refused_too(tmp_path):
    certificates = Certificates(tmp_path)
    certificate, key = map(str, certificates.server)
    context = ssl.create_default_context(cafile=certificates.ca)
    options = TlsOptions(certificate=certificate, key=key)
    with HttpSite(tls=options) as site, site.client(context) as client:
        assert client.ask("GET", "/v2").status == 200
        with stopping(site):
            answer = client.ask("GET", "/v2")
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            assert client.socket.recv(1) == b""


def test_a_request_that_has_come_in_part_is_refused():
    with HttpSite() as site, site.client() as headless, site.client() as bodiless:
        headless.send(request("GET", "/v2")[:-2])
        bodiless.send(INFER[:-10])
        assert site.ask("GET", "/v2").status == 200  # by then the others are read
        with stopping(site):
            for client in (headless, bodiless):
                answer = client.answer()
                assert (answer.status, answer.error) == (503, STOPPING)
                assert client.socket.recv(1) == b""
    assert site.gate.under_way == 0


def test_requests_sent_ahead_are_each_answered():
    with HttpSite() as site, site.client() as client:
        client.send(binary_request("slow", ARRAY), request("GET", "/v2"))
        held = site.core.held.get(timeout=WAIT_S)
        with stopping(site):
            site.core.held.put(held)
            site.core.finish()
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert client.socket.recv(1) == b""  # though a request was not read


def test_an_answer_under_way_is_waited_for_longer_than_those_that_are_idle():
    with HttpSite() as site, site.client() as busy, site.client() as idle:
        assert idle.ask("GET", "/v2").status == 200
        busy.send(binary_request("slow", ARRAY))
        held = site.core.held.get(timeout=WAIT_S)
        with stopping(site):
            assert idle.socket.recv(1) == b""
            site.core.held.put(held)
            site.core.finish()
            assert busy.answer().status == 200
            assert busy.socket.recv(1) == b""


@pytest.mark.parametrize("drain_s", [0.0, WAIT_S])
def test_idle_connections_hold_up_the_end_only_for_a_grace(drain_s):
    with HttpSite() as site, site.client() as client:
        assert client.ask("GET", "/v2").status == 200
        began_s = time.monotonic()
        site.front.close(drain_s)
        assert time.monotonic() - began_s < 2 * STOP_GRACE_S + WAIT_S / 4
        assert client.is_closed()


def test_a_request_too_large_is_told_which_limit():
    with HttpSite(limits={"request_mb": 1}) as site:
        answer = site.ask("POST", "/v2/models/identity/infer", Content_Length=2 << 20)
        assert answer.status == 413
        assert "serve.limits.request_mb" in answer.error
