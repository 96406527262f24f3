"""Bytes become requests, however they are cut."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgert.serve.bodies import Bodies
from edgert.serve.http.chunks import ChunkedBody
from edgert.serve.http.message import RefusedError
from edgert.serve.http.reader import RequestReader
from edgert.serve.options import LimitOptions
from tests.fakes.http_front import request

LIMITS = LimitOptions(request_mb=1, header_kb=1)
CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data, sizes, *, is_wanted=True, limits=LIMITS):
    """Return (path, body) of the requests in `data`, received in pieces of `sizes`."""
    reader = RequestReader(limits, memoryview(bytearray(256)), Bodies())
    found, head = [], None
    sizes = iter(sizes)
    while True:
        while True:
            if head is None:
                head = reader.read_head()
                if head is None:
                    break
                reader.begin_body(head, is_wanted=is_wanted)
            body = reader.read_body()
            if body is None:
                break
            found.append((head.path, bytes(body)))
            head = None
        if not data:
            return found
        place = reader.buffer()
        count = min(next(sizes), len(place), len(data))
        place[:count] = data[:count]
        reader.received(count)
        data = data[count:]


def pieces(seed):
    generator = random.Random(seed)
    while True:
        yield generator.choice((1, 2, 3, 7, 50, 255, 4000))


REQUESTS = [
    ("/a", b""),
    ("/b", b"x" * 5),
    ("/c", b"0123456789"),
    ("/d", bytes(range(256)) * 20),
    ("/e", b""),
]
STREAM = b"".join(
    [
        request("GET", "/a"),
        b"\r\n",
        request("POST", "/b", b"x" * 5),
        CHUNKED + b"3;name=value\r\n012\r\n7\r\n3456789\r\n0\r\nTrailer: 1\r\n\r\n",
        request("POST", "/d", bytes(range(256)) * 20),
        request("GET", "/e"),
    ]
)


@pytest.mark.parametrize("seed", range(40))
def test_requests_are_the_same_however_they_are_cut(seed):
    assert read(STREAM, pieces(seed)) == REQUESTS


def test_unwanted_bodies_are_passed_over():
    found = read(STREAM, pieces(1), is_wanted=False)
    assert found == [(path, b"") for path, _ in REQUESTS]


def test_a_long_body_is_received_where_it_stays():
    reader = RequestReader(LIMITS, memoryview(bytearray(64)), Bodies())
    for byte in request("POST", "/", bytes(1000))[:-1000]:
        reader.buffer()[:1] = bytes([byte])
        reader.received(1)
    reader.begin_body(reader.read_head(), is_wanted=True)
    place = reader.buffer()
    assert len(place) == 1000
    place[:] = b"y" * 1000
    reader.received(1000)
    body = reader.read_body()
    assert bytes(body) == b"y" * 1000
    assert (
        np.frombuffer(body, np.uint8).__array_interface__["data"][0]
        == (np.frombuffer(place, np.uint8).__array_interface__["data"][0])
    )


@pytest.mark.parametrize(("size", "alignment"), [(500, 16), (20_000, 64)])
@pytest.mark.parametrize("json_bytes", [0, 1, 61, 64, 200])
def test_the_first_tensor_of_a_body_stands_at_a_whole_address(json_bytes, size, alignment):
    reader = RequestReader(LIMITS, memoryview(bytearray(1 << 15)), Bodies())
    data = request("POST", "/", bytes(size), Inference_Header_Content_Length=json_bytes)
    reader.buffer()[: len(data)] = data
    reader.received(len(data))
    reader.begin_body(reader.read_head(), is_wanted=True)
    tensor = np.frombuffer(reader.read_body()[json_bytes:], np.uint8)
    assert tensor.__array_interface__["data"][0] % alignment == 0


def test_the_same_head_is_read_once():
    reader = RequestReader(LIMITS, memoryview(bytearray(4096)), Bodies())
    heads = []
    for path in ("/a", "/a", "/b", "/a"):
        data = request("GET", path)
        reader.buffer()[: len(data)] = data
        reader.received(len(data))
        heads.append(reader.read_head())
    assert [head.path for head in heads] == ["/a", "/a", "/b", "/a"]
    assert heads[1] is heads[0]
    assert heads[3] is not heads[0]


def refused(data, limits=LIMITS):
    with pytest.raises(RefusedError) as caught:
        read(data, iter(lambda: 64, None), limits=limits)
    return caught.value


def test_a_head_that_does_not_end_is_refused():
    assert refused(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2000).code == 431


def test_a_body_over_the_limit_is_refused_before_it_comes():
    error = refused(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n")
    assert (error.code, error.reason) == (413, "body_too_large")


def test_chunks_over_the_limit_are_refused():
    assert refused(CHUNKED + b"fffff\r\n" + bytes(0xFFFFF) + b"\r\n2\r\n").code == 413


@pytest.mark.parametrize(
    "chunks", [b"x\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"\r\n", b"1" * 20 + b"\r\n", b"1;" + b"a" * 2000]
)
def test_malformed_chunks_are_refused(chunks):
    assert refused(CHUNKED + chunks).code == 400


def test_trailers_have_bounds():
    assert refused(CHUNKED + b"0\r\n" + b"A: 1\r\n" * 65).code == 431


def test_chunks_that_nobody_wants_are_not_kept():
    chunks = ChunkedBody(100, None)
    assert chunks.feed(b"5\r\nhello\r\n0\r\n\r\nGET") == b"GET"
    assert chunks.is_complete
    assert chunks.body is None
