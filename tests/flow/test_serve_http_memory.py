"""How much memory requests over HTTP may take."""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time

import numpy as np
import pytest

from edgert.serve.http import asked as http_asked
from tests.fakes.http_front import WAIT_S, HttpSite, binary_request, request

MB = 1 << 20
INFER = "/v2/models/identity_fp32/infer"
BIG = request("POST", INFER, Content_Length=700_000)
TEXTS = 60_000  # elements; 20 bytes each


@pytest.fixture
def site():
    with HttpSite(limits={"bodies_mb": 1, "json_mb": 1}) as site:
        yield site


def counts(site):
    return site.http.counts.snapshot()


def wait_for(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def chunked(size):
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (50_000, bytes(50_000)) for _ in range(size // 50_000))


def test_announced_bodies_take_next_to_nothing(site):
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(site.client()).send(BIG, bytes(1000))
        wait_for(lambda: site.gate.under_way == 8)
        assert 0 < site.gate.bodies.held_bytes <= 8 * 70_000
        with site.client() as client:
            client.send(binary_request("identity_fp32", np.zeros(50_000, np.float32)))
            assert client.answer().status == 200
            site.core.requests.clear()
    wait_for(lambda: site.gate.bodies.held_bytes == 0)


def test_a_body_that_finds_no_room_as_it_comes_is_passed_over(site):
    with site.client() as one, site.client() as two:
        one.send(BIG, bytes(600_000))
        wait_for(lambda: site.gate.bodies.held_bytes >= 600_000)
        two.send(BIG, bytes(700_000))
        answer = two.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "of 1048576 bytes" in answer.error
        two.send(binary_request("identity", np.zeros((1, 16), np.float32)))
        assert two.answer().status == 200
        assert counts(site) == {"full_error": 1}
        assert site.gate.under_way == 1
    wait_for(lambda: site.gate.bodies.held_bytes == 0)


def test_one_that_waits_for_leave_is_told_that_there_is_no_room(site):
    with site.client() as one, site.client() as two:
        one.send(request("POST", INFER, Content_Length=MB), bytes(MB - 1))
        wait_for(lambda: site.gate.bodies.held_bytes >= MB - 1)
        two.send(request("POST", INFER, Content_Length=700_000, Expect="100-continue"))
        statuses = [two.answer(has_body=False).status, two.answer().status]
        assert statuses == [100, 503]
        assert two.is_closed()


def test_a_body_in_chunks_is_counted_as_it_comes(site):
    with site.client() as client:
        client.send(chunked(MB + 100_000))
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
    wait_for(lambda: site.gate.bodies.held_bytes == 0)
    assert site.gate.under_way == 0


def test_what_is_answered_is_counted_no_more(site):
    array = np.zeros(100_000, np.float32)
    with site.client() as client:
        for _ in range(5):
            client.send(binary_request("identity_fp32", array))
            assert client.answer().status == 200
            site.core.wait_until_idle()
            site.core.requests.clear()
            wait_for(lambda: site.gate.bodies.held_bytes == 0)


def test_an_inflated_body_is_counted(site):
    answer = site.ask("POST", INFER, gzip.compress(bytes(2 * MB)), Content_Encoding="gzip")
    assert answer.status == 503
    assert counts(site) == {"full_error": 1}


def test_json_counts_tenfold(site):
    tensor = {"name": "INPUT0", "shape": [60_000], "datatype": "FP32", "data": [0.5] * 60_000}
    answer = site.infer("identity_fp32", {"inputs": [tensor]})
    assert answer.status == 503
    assert "of 1048576 bytes" in answer.error
    assert counts(site) == {"full_error": 1}


def test_json_has_a_limit_of_its_own():
    with HttpSite(limits={"json_mb": 1}) as site:
        answer = site.ask("POST", INFER, b'{"inputs":[' + b" " * MB)
        assert (answer.status, "JSON" in answer.error) == (413, True)
        assert counts(site) == {"too_large_error": 1}


@pytest.mark.parametrize(("limits", "status"), [({"json_mb": 1}, 413), ({"bodies_mb": 10}, 503), ({}, 200)])
def test_texts_count_as_json_does(limits, status):
    data = b"\x10\0\0\0abcdefghijklmnop" * TEXTS
    with HttpSite(limits=limits) as site, site.client() as client:
        client.send(binary_request("identity_bytes", np.empty(TEXTS), datatype="BYTES", data=data))
        assert client.answer().status == status
        site.core.requests.clear()
        site.core.wait_until_idle()
        wait_for(lambda: site.gate.bodies.held_bytes == 0)


def test_a_huge_shape_of_texts_is_refused(site):
    tensor = {"name": "INPUT0", "shape": [1 << 50], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": 0}
    text = json.dumps({"inputs": [tensor]}).encode()
    answer = site.ask(
        "POST", "/v2/models/identity_bytes/infer", text, Inference_Header_Content_Length=len(text)
    )
    assert (answer.status, "4503599627370496 bytes, 0 came" in answer.error) == (400, True)


def test_long_json_is_read_beside_the_loop(monkeypatch):
    threads = []
    read = http_asked.read_json
    monkeypatch.setattr(
        http_asked,
        "read_json",
        lambda *given: (threads.append(threading.current_thread().name), read(*given))[1],
    )
    tensor = {"name": "INPUT0", "shape": [100_000], "datatype": "FP32", "data": [0.5] * 100_000}
    with HttpSite() as site:
        assert site.infer("identity_fp32", {"inputs": [tensor]}).status == 200
    assert [name.partition("_")[0] for name in threads] == ["http"]


def test_answers_that_nobody_takes_are_counted():
    big = 7 * MB  # more than the kernel takes of an answer
    page = {"/big": lambda: (bytes(big), "text/plain")}
    with HttpSite(limits={"bodies_mb": 16, "json_mb": 1}, pages=page) as site:
        held = site.gate.bodies
        with site.client() as one, site.client() as two:
            one.send(request("GET", "/big"))
            two.send(request("GET", "/big"))
            wait_for(lambda: held.held_bytes == 2 * big)
            assert site.ask("GET", "/big").status == 503
            assert one.answer().status == 200
            wait_for(lambda: held.held_bytes == big)
            assert site.ask("GET", "/big").status == 200
        wait_for(lambda: held.held_bytes == 0)
