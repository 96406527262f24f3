"""Clients that have gone, and those that were never let in."""

from __future__ import annotations

import threading
import time

import numpy as np

from edgert.serve.http import asked as http_asked
from edgert.serve.http import infer as http_infer
from tests.fakes.http_front import WAIT_S, HttpSite, binary_request, request

ARRAY = np.zeros((1, 16), np.float32)


def wait_for(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_work_for_clients_that_have_gone_is_not_begun():
    shown, busy, go_on = [], threading.Semaphore(0), threading.Event()

    def blocking():
        busy.release()
        go_on.wait(WAIT_S)
        return b"", "text/plain"

    def page():
        shown.append(1)
        return b"", "text/plain"

    with HttpSite(pages={"/blocking": blocking, "/page": page}) as site:
        clients = [site.client() for _ in range(3)]
        for client, path in zip(clients, ("/blocking", "/blocking", "/page"), strict=True):
            client.send(request("GET", path))
            if path == "/blocking":
                assert busy.acquire(timeout=WAIT_S)
        wait_for(lambda: site.http._executors["aside"]._work_queue.qsize() == 1)
        for client in clients:
            client.close()
        wait_for(lambda: site.http.counts.snapshot().get("disconnected") == 3)
        go_on.set()
        assert site.ask("GET", "/blocking").status == 200
        assert not shown


def test_an_inference_of_a_client_that_left_meanwhile_is_cancelled(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    read = http_infer.InputReader.read

    def slow_read(*arguments):
        begun.set()
        go_on.wait(WAIT_S)
        return read(*arguments)

    monkeypatch.setattr(http_infer.InputReader, "read", slow_read)
    monkeypatch.setattr(http_asked, "_has_long_texts", lambda _: True)
    with HttpSite() as site:
        with site.client() as client:
            client.send(binary_request("slow", ARRAY))
            assert begun.wait(WAIT_S)
        wait_for(lambda: site.http.counts.snapshot().get("disconnected") == 1)
        go_on.set()
        assert site.core.held.get(timeout=WAIT_S).is_cancelled


def test_the_body_of_a_stranger_is_not_read():
    with HttpSite(token="secret") as site, site.client() as client:
        client.send(request("POST", "/v2/models/identity/infer", Content_Length=1000))
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert client.is_closed()
