"""The HTTP front's bounds: how much, how long, by whom; and that nothing a client sends ends it."""

from __future__ import annotations

import gc
import gzip
import json
import random
import socket
import ssl
import struct
import subprocess
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest

from edgert.errors import ConfigError
from edgert.serve.front import Front
from edgert.serve.http.server import HttpFront
from edgert.serve.options import ServeOptions, TlsOptions
from tests.fakes.broker import Certificates
from tests.fakes.core import FakeCore
from tests.fakes.http_front import WAIT_S, HttpSite, binary_request, request

ARRAY = np.arange(16, dtype=np.float32).reshape(1, 16)
INFER = "/v2/models/{}/infer"
PACKED = gzip.compress(b"{}")
SOON = 0.15  # seconds: a limit that a test waits for


@pytest.fixture
def site():
    with HttpSite() as site:
        yield site


def wait_until(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def counts(site):
    return site.http.counts.snapshot()


class TestConnections:
    def test_requests_sent_ahead_are_answered_in_order(self, site):
        arrays = [ARRAY + index for index in range(50)]
        pieces = [binary_request("identity", array) for array in arrays]
        with site.client() as client:
            client.send(b"".join([*pieces[:25], request("GET", "/v2/nothing"), *pieces[25:]]))
            bodies = [client.answer().body for _ in range(51)]
        assert b"Not Found" in bodies.pop(25)
        for body, array in zip(bodies, arrays, strict=True):
            assert body.endswith(array.tobytes())

    def test_a_thousand_requests_sent_ahead_need_no_stack(self, site):
        with site.client() as client:
            client.send(request("GET", "/v2/health/live") * 1000)
            assert {client.answer().status for _ in range(1000)} == {200}

    def test_what_is_sent_ahead_of_a_slow_answer_waits(self, site):
        many = 3000
        with site.client() as client:
            client.send(binary_request("slow", ARRAY))
            sender = threading.Thread(target=client.send, args=[request("GET", "/v2/nothing") * many])
            sender.start()
            site.core.finish()
            statuses = [client.answer().status for _ in range(many + 1)]
            sender.join(WAIT_S)
        assert statuses == [200, *[404] * many]

    def test_a_connection_is_closed_when_the_client_says_so(self, site):
        with site.client() as client:
            answer = client.ask("GET", "/v2", Connection="close")
            assert answer.headers["connection"] == "close"
            assert client.is_closed()

    def test_http_1_0_is_told_that_its_connection_stays(self, site):
        with site.client() as client:
            client.send(b"GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.answer().headers["connection"] == "keep-alive"
            client.send(b"GET /v2 HTTP/1.0\r\n\r\n")
            assert client.answer().headers["connection"] == "close"
            assert client.is_closed()

    def test_a_client_may_wait_for_leave_to_send(self, site):
        head, _, body = binary_request("identity", ARRAY, Expect="100-continue").partition(b"\r\n\r\n")
        with site.client() as client:
            client.send(head + b"\r\n\r\n")
            assert client.answer(has_body=False).status == 100
            client.send(body)
            assert client.answer().body.endswith(ARRAY.tobytes())

    def test_a_client_that_waits_for_leave_may_be_refused_at_once(self, site):
        with site.client() as client:
            client.send(request("POST", "/nothing", Content_Length=10**6, Expect="100-continue"))
            assert client.answer().status == 404
            assert client.is_closed()

    def test_a_chunked_body(self, site):
        whole = binary_request("identity", ARRAY).partition(b"\r\n\r\n")
        head = b"\r\n".join(
            line for line in whole[0].split(b"\r\n") if not line.startswith(b"Content-Length")
        )
        pieces = [b"%x\r\n%s\r\n" % (len(part), part) for part in (whole[2][:7], whole[2][7:])]
        with site.client() as client:
            client.send(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n")
            assert client.answer().body.endswith(ARRAY.tobytes())
            assert client.ask("GET", "/v2").status == 200

    def test_a_refused_body_is_passed_over(self, site):
        with site.client() as client:
            assert client.ask("POST", "/nothing", bytes(300_000)).status == 404
            assert client.ask("POST", "/v2", b"x").status == 405
            assert client.ask("GET", "/v2").status == 200

    def test_a_large_body_and_its_answer(self, site):
        array = np.random.default_rng(1).standard_normal(270_000).astype(np.float32)
        with site.client() as client:
            client.send(binary_request("identity_fp32", array))
            assert client.answer().body.endswith(array.tobytes())
        assert not site.core.requests[0].inputs["INPUT0"].flags.owndata

    def test_a_client_that_goes_away_is_waited_for_by_nobody(self, site):
        with site.client() as client:
            client.send(binary_request("slow", ARRAY))
            held = site.core.held.get(timeout=WAIT_S)
        while not held.is_cancelled:
            pass
        assert counts(site)["disconnected"] == 1
        site.core.held.put(held)
        site.core.finish()
        assert site.ask("GET", "/v2").status == 200

    @pytest.mark.parametrize("model", ["identity", "failing", "refusing"])
    def test_a_request_leaves_nothing_to_the_collector(self, site, model, monkeypatch):
        array = []
        begin = site.core.infer
        monkeypatch.setattr(
            site.core, "infer", lambda sent: (array.append(weakref.ref(sent.inputs["INPUT0"])), begin(sent))
        )
        gc.disable()
        try:
            with site.client() as client:
                client.send(binary_request(model, ARRAY))
                client.answer()
                site.core.requests.clear()
                client.ask("GET", "/v2")
            site.core.wait_until_idle()
            assert array[0]() is None
        finally:
            gc.enable()


class TestBounds:
    def test_a_body_too_large(self):
        with HttpSite(limits={"request_mb": 1}) as site, site.client() as client:
            client.send(request("POST", INFER.format("identity"), Content_Length=2 << 20), bytes(100_000))
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            assert "1048576 bytes" in answer.error
            assert client.is_closed()
            assert counts(site) == {"body_too_large": 1}

    def test_a_body_that_is_too_large_inflated(self):
        with HttpSite(limits={"request_mb": 1}) as site:
            bomb = gzip.compress(bytes(5 << 20))
            answer = site.ask("POST", INFER.format("identity"), bomb, Content_Encoding="gzip")
            assert answer.status == 413
            assert counts(site) == {"too_large_error": 1}

    @pytest.mark.parametrize("body", [b"no gzip", PACKED[:-3], PACKED + b"x"], ids=["none", "cut", "more"])
    def test_a_body_that_is_not_what_it_says(self, site, body):
        answer = site.ask("POST", INFER.format("identity"), body, Content_Encoding="gzip")
        assert (answer.status, "gzip" in answer.error) == (400, True)

    def test_an_unknown_compression(self, site):
        assert site.ask("POST", INFER.format("identity"), b"{}", Content_Encoding="br").status == 501

    def test_a_head_too_large(self):
        with HttpSite(limits={"header_kb": 1}) as site, site.client() as client:
            client.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1100)
            assert client.answer().status == 431
            assert client.is_closed()

    def test_too_many_headers(self):
        with HttpSite(limits={"headers": 3}) as site:
            assert site.ask("GET", "/v2", A=1, B=2, C=3).status == 431
            assert counts(site) == {"too_many_headers": 1}

    def test_too_many_connections(self):
        with HttpSite(limits={"connections": 2}) as site, site.client() as one, site.client() as two:
            assert one.ask("GET", "/v2").status == two.ask("GET", "/v2").status == 200
            with site.client() as three:
                answer = three.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "1")
                assert three.is_closed()
            assert counts(site) == {"too_many_connections": 1}
            assert one.ask("GET", "/v2").status == 200

    def test_connections_too_many_that_are_gone(self, caplog):
        with HttpSite(limits={"connections": 1}) as site, site.client() as one:
            assert one.ask("GET", "/v2").status == 200
            go_on = threading.Event()
            site.front._loop.call_soon_threadsafe(go_on.wait, WAIT_S)  # so that they are gone when accepted
            for _ in range(20):
                site.client().close()
            go_on.set()
            assert one.ask("GET", "/v2").status == 200
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    def test_too_many_requests_under_way(self):
        with HttpSite(limits={"requests": 1}) as site, site.client() as one, site.client() as two:
            one.send(binary_request("slow", ARRAY))
            held = site.core.held.get(timeout=WAIT_S)
            two.send(binary_request("identity", ARRAY))
            answer = two.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert two.ask("GET", "/v2/health/live").status == 200
            site.core.held.put(held)
            site.core.finish()
            assert one.answer().status == 200
            two.send(binary_request("identity", ARRAY))
            assert two.answer().status == 200
            assert counts(site) == {"too_many_requests": 1}

    @pytest.mark.parametrize(
        "broken",
        [
            b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
            b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n",
        ],
    )
    def test_a_request_that_breaks_off_leaves_room_for_others(self, broken):
        with HttpSite(limits={"requests": 1}) as site:
            with site.client() as client:
                client.send(broken)
                client.socket.shutdown(socket.SHUT_WR)
                while client.socket.recv(4096):
                    pass
            with site.client() as client:
                client.send(binary_request("identity", ARRAY))
                assert client.answer().status == 200

    @pytest.mark.parametrize(
        "begun",
        [
            b"GE",
            b"GET /v2 HTTP/1.1\r\nHost: x\r\n",
            b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
        ],
    )
    def test_a_request_that_does_not_arrive_in_time(self, begun):
        with HttpSite(limits={"arrive_s": SOON}) as site, site.client() as client:
            client.send(begun)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert client.is_closed()
            assert counts(site) == {"late_request": 1}

    def test_a_byte_now_and_then_gains_no_time(self):
        with HttpSite(limits={"arrive_s": SOON}) as site, site.client() as client:
            client.socket.settimeout(SOON / 10)
            for _ in range(1000):
                client.send(b"G")
                try:
                    assert b" 408 " in client.socket.recv(4096)
                    break
                except TimeoutError:
                    continue
            else:
                pytest.fail("The server waited on.")

    def test_an_idle_connection_is_closed(self):
        with HttpSite(limits={"idle_s": SOON}) as site, site.client() as client:
            assert client.ask("GET", "/v2").status == 200
            assert client.is_closed()
            assert counts(site) == {"idle": 1}

    def test_an_answer_that_takes_too_long(self):
        with HttpSite(limits={"answer_s": SOON}) as site, site.client() as client:
            client.send(binary_request("slow", ARRAY))
            assert client.answer().status == 504
            assert client.is_closed()
            held = site.core.held.get(timeout=WAIT_S)
            assert held.is_cancelled
            assert counts(site) == {"late_answer": 1}
            site.core.held.put(held)
            site.core.finish()

    def test_an_answer_that_nobody_takes(self):
        array = np.zeros(3 << 20, np.float32)
        with HttpSite(limits={"arrive_s": SOON}) as site:
            with site.client() as client:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.send(binary_request("identity_fp32", array))
                while not counts(site):
                    pass
            assert counts(site) == {"answer_not_taken": 1}

    def test_a_port_that_is_taken(self):
        with HttpSite() as site:
            front = Front(lambda: [HttpFront("127.0.0.1", site.port, FakeCore(), ServeOptions(), False, {})])
            with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1"):
                front.open()


class TestRights:
    def test_every_request_carries_the_token(self):
        with HttpSite(token="s3cret") as site:
            for wrong in (None, "Bearer", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret"):
                answer = site.ask("GET", "/v2/health/live", Authorization=wrong)
                assert (answer.status, "s3cret" in answer.error) == (401, False)
            assert site.ask("GET", "/v2/health/live", Authorization="Bearer s3cret").status == 200
            assert site.ask("GET", "/v2/health/live", Authorization="bearer  s3cret").status == 200
            assert counts(site) == {"unauthorized": 6}

    def test_what_was_not_authorized_is_not_kept(self):
        with HttpSite(token="s3cret") as site, site.client() as client:
            client.send(binary_request("identity", ARRAY))
            assert client.answer().status == 401
            assert not site.core.requests

    def test_shared_memory_can_be_off(self):
        with HttpSite(has_regions=False) as site:
            body = b'{"key":"/x","offset":0,"byte_size":64}'
            assert site.ask("POST", "/v2/systemsharedmemory/region/x/register", body).status == 501
            assert site.ask("GET", "/v2/systemsharedmemory/status").json() == []
            place = {"shared_memory_region": "x", "shared_memory_byte_size": 64}
            tensor = {"name": "INPUT0", "shape": [1, 16], "datatype": "FP32", "parameters": place}
            body = json.dumps({"inputs": [tensor]}).encode()
            assert site.ask("POST", INFER.format("identity"), body).status == 501


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


class TestTls:
    def options(self, certificates, **more):
        certificate, key = certificates.server
        return TlsOptions(certificate=str(certificate), key=str(key), **more)

    def test_a_client_that_knows_the_authority(self, certificates):
        context = ssl.create_default_context(cafile=certificates.ca)
        array = np.zeros(270_000, np.float32)
        with HttpSite(tls=self.options(certificates)) as site, site.client(context) as client:
            assert site.address.startswith("https://")
            client.send(binary_request("identity_fp32", array))
            assert client.answer().body.endswith(array.tobytes())
            client.send(request("GET", "/v2", Connection="close"))
            assert client.answer().status == 200

    def test_a_client_must_show_its_certificate(self, certificates):
        context = ssl.create_default_context(cafile=certificates.ca)
        options = self.options(certificates, client_ca=str(certificates.ca))
        with HttpSite(tls=options) as site:
            with site.client(context) as client:
                client.send(request("GET", "/v2"))
                assert client.is_closed()
            context.load_cert_chain(*certificates.client)
            with site.client(context) as client:
                assert client.ask("GET", "/v2").status == 200

    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_connections_count_before_their_handshake(self, certificates):
        with HttpSite(tls=self.options(certificates), limits={"connections": 1}) as site:
            silent = [site.client() for _ in range(17)]
            with site.client() as one_more:
                assert one_more.is_closed()
            assert counts(site) == {"too_many_connections": 1}
            assert len(site.http._site.connections._arriving) == 17
            for client in silent:
                client.close()
            context = ssl.create_default_context(cafile=certificates.ca)
            wait_until(lambda: gc.collect() >= 0 and not site.http._site.connections._arriving)
            with site.client(context) as client:
                assert client.ask("GET", "/v2").status == 200

    def test_a_key_with_a_passphrase_is_refused_and_nobody_asked_for_it(self, certificates, tmp_path):
        certificate, key = certificates.server
        locked = tmp_path / "locked.key"
        command = ("openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked)
        subprocess.run(command, check=True, timeout=WAIT_S)
        options = TlsOptions(certificate=str(certificate), key=str(locked))
        with pytest.raises(ConfigError, match="the key needs a passphrase"), HttpSite(tls=options):
            pass

    def test_a_certificate_that_is_not_there(self):
        options = TlsOptions(certificate="/nowhere.pem", key="/nowhere.key")
        with pytest.raises(ConfigError, match=r"serve\.tls"), HttpSite(tls=options):
            pass


class TestStop:
    def test_what_is_under_way_is_answered(self):
        with HttpSite() as site, site.client() as busy, site.client() as idle:
            assert idle.ask("GET", "/v2").status == 200
            busy.send(binary_request("slow", ARRAY))
            held = site.core.held.get(timeout=WAIT_S)
            stopper = threading.Thread(target=site.front.close, args=[WAIT_S])
            stopper.start()
            assert idle.is_closed()
            site.core.held.put(held)
            site.core.finish()
            assert busy.answer().status == 200
            assert busy.is_closed()
            stopper.join(WAIT_S)

    def test_what_takes_too_long_is_cut_off(self):
        with HttpSite() as site, site.client() as busy:
            busy.send(binary_request("slow", ARRAY))
            held = site.core.held.get(timeout=WAIT_S)
            site.front.close(0.05)
            answer = busy.answer()
            assert (answer.status, answer.error) == (503, "The server is stopping.")
            assert busy.is_closed()
            assert held.is_cancelled
            site.core.held.put(held)
            site.core.finish()


def mutated(generator, data):
    """Return `data` with a few bytes changed, dropped, doubled or cut off."""
    data = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(len(data) + 1)
        kind = generator.randrange(5)
        if kind == 0 and place < len(data):
            data[place] = generator.randrange(256)
        elif kind == 1:
            del data[place : place + generator.randint(1, 20)]
        elif kind == 2:
            data[place:place] = generator.randbytes(generator.randint(1, 20))
        elif kind == 3:
            data[place:place] = data[place : place + generator.randint(1, 50)]
        else:
            data[place:place] = generator.choice(
                [b"\r\n", b"\0", b"{", b"[", b'"', b"9" * 30, b"-", b"\xff", b"77777777"]
            )
    return bytes(data)


SEEDS = [
    binary_request("identity", ARRAY),
    binary_request("identity_bytes", np.empty(1), datatype="BYTES", data=struct.pack("<I", 1) + b"a"),
    request(
        "POST",
        INFER.format("add"),
        b'{"inputs":[{"name":"INPUT0","shape":[1],"datatype":"INT8","data":[1]}]}',
    ),
    request("GET", "/v2/models/identity/config"),
    request("POST", "/v2/repository/index", b'{"ready":true}'),
    request("POST", "/v2/systemsharedmemory/region/x/register", b'{"key":"/x","offset":0,"byte_size":1}'),
    request("POST", INFER.format("identity"), Transfer_Encoding="chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    request("POST", INFER.format("identity"), PACKED, Content_Encoding="gzip"),
]


def sent(site, data):
    """Return the status of the first answer to `data`; 0 if there is none."""
    with site.client() as client:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := client.socket.recv(1 << 16):
                received += piece
        except ConnectionError:
            pass
    assert not received or received.startswith(b"HTTP/1.1 ")
    return int(received.split()[1]) if received else 0


def test_nothing_malformed_ends_the_server(caplog):
    """10,000 mutated requests: a good one is answered after each hundred, and none is a fault of edgert's."""
    generator = random.Random(7)
    statuses = Counter()
    with HttpSite(limits={"request_mb": 1, "connections": 8}) as site:
        for index in range(10_000):
            statuses[sent(site, mutated(generator, generator.choice(SEEDS)))] += 1
            if index % 100 == 0:
                with site.client() as client:
                    client.send(binary_request("identity", ARRAY))
                    assert client.answer().body.endswith(ARRAY.tobytes())
    assert set(statuses) >= {0, 200, 400, 404, 405, 501}
    assert 500 not in statuses
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
