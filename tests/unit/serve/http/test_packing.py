"""Answers that are compressed, and for whom."""

from __future__ import annotations

import gzip
import json
import threading
import time
import zlib

import numpy as np
import pytest

from edgert.serve.http import packing
from edgert.serve.http.packing import INLINE_BYTES, accepted_encoding
from tests.fakes.http_front import WAIT_S, HttpSite, binary_request

UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        (b"gzip", "gzip"),
        (b"deflate, gzip", "deflate"),
        (b"GZIP ; q=0.1 , deflate; q=0.5", "deflate"),
        (b"gzip;q=0.5, identity", ""),
        (b"identity, gzip", ""),
        (b"gzip;q=0", ""),
        (b"br, gzip", "gzip"),
        (b"br", ""),
        (b"*", ""),
        (b"", ""),
        (b"gzip;q=x, \xff;;", ""),
    ],
)
def test_what_a_client_likes_most_is_chosen_as_the_inference_server_does(header, encoding):
    assert accepted_encoding(header) == encoding


@pytest.fixture
def threads(monkeypatch):
    """The threads that compressed."""
    names = []
    packed = packing._packed
    monkeypatch.setattr(
        packing, "_packed", lambda *given: (names.append(threading.current_thread().name), packed(*given))[1]
    )
    return names


@pytest.mark.parametrize("encoding", UNPACK)
@pytest.mark.parametrize("count", [16, 100_000])
def test_an_answer_is_compressed(threads, encoding, count):
    array = np.arange(count, dtype=np.float32)
    with HttpSite() as site, site.client() as client:
        client.send(binary_request("identity_fp32", array, Accept_Encoding=encoding))
        answer = client.answer()
        assert (answer.status, answer.headers["content-encoding"]) == (200, encoding)
        body = UNPACK[encoding](answer.body)
        json_bytes = int(answer.headers["inference-header-content-length"])
        assert json.loads(body[:json_bytes])["outputs"][0]["parameters"] == {"binary_data_size": 4 * count}
        assert body[json_bytes:] == array.tobytes()
        site.core.requests.clear()
        deadline_s = time.monotonic() + WAIT_S
        while site.gate.bodies.held_bytes:
            assert time.monotonic() < deadline_s
    is_aside = array.nbytes > INLINE_BYTES
    assert [name.startswith("http_") for name in threads] == [is_aside]


def test_errors_and_descriptions_are_not_compressed():
    with HttpSite() as site, site.client() as client:
        for path in ("/v2", "/v2/models/identity", "/v2/nothing"):
            assert "content-encoding" not in client.ask("GET", path, Accept_Encoding="gzip").headers
        client.send(binary_request("failing", np.zeros((1, 16), np.float32), Accept_Encoding="gzip"))
        answer = client.answer()
        assert answer.error == "the engine could not run"
        assert "content-encoding" not in answer.headers


def test_an_answer_that_finds_no_room_is_503():
    array = np.zeros(150_000, np.float32)
    with HttpSite(limits={"bodies_mb": 1, "json_mb": 1}) as site, site.client() as client:
        client.send(binary_request("identity_fp32", array, Accept_Encoding="gzip"))
        assert client.answer().status == 503
