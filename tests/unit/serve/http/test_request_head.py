"""The first lines of a request."""

from __future__ import annotations

import pytest

from edgert.serve.http.message import RefusedError
from edgert.serve.http.request_head import parse_head
from edgert.serve.options import LimitOptions

LIMITS = LimitOptions(headers=4)


def head(*lines):
    host = ["Host: board"] if lines[0].endswith("1.1") and not any("Host:" in line for line in lines) else []
    return parse_head("\r\n".join([lines[0], *host, *lines[1:], "", ""]).encode("latin-1"), LIMITS)


def refused(*lines):
    with pytest.raises(RefusedError) as caught:
        head(*lines)
    return caught.value


def test_a_head_is_method_path_and_headers():
    found = head("POST /v2/models/a?x=1 HTTP/1.1", "Content-Length: 12", "X-Name:  value ")
    assert (found.method, found.path, found.body_bytes) == ("POST", "/v2/models/a", 12)
    assert found.headers[b"x-name"].strip() == b"value"
    assert found.is_kept_alive
    assert not found.is_http_1_0


def test_a_request_without_a_length_has_no_body():
    assert head("GET / HTTP/1.1").body_bytes == 0


def test_a_chunked_body_has_no_length():
    assert head("POST / HTTP/1.1", "Transfer-Encoding: Chunked").body_bytes is None


@pytest.mark.parametrize(
    ("version", "connection", "is_kept"),
    [
        ("1.1", "keep-alive", True),
        ("1.1", "close", False),
        ("1.0", "keep-alive", True),
        ("1.0", "", False),
    ],
)
def test_a_connection_is_kept_as_its_version_says(version, connection, is_kept):
    lines = [f"Connection: {connection}"] if connection else []
    assert head(f"GET / HTTP/{version}", *lines).is_kept_alive is is_kept


def test_an_absolute_address_is_its_path():
    assert head("GET http://board:8000/v2/health/live?a HTTP/1.1").path == "/v2/health/live"
    assert head("GET http://board HTTP/1.1").path == "/"


def test_an_offer_of_another_protocol_is_passed_over():
    found = head("GET /v2 HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    assert (found.method, found.path) == ("GET", "/v2")


def test_only_http_1_1_waits_for_leave_to_send():
    assert head("POST / HTTP/1.1", "Expect: 100-Continue").awaits_continue
    assert not head("POST / HTTP/1.0", "Expect: 100-continue").awaits_continue
    assert not head("POST / HTTP/1.1").awaits_continue


@pytest.mark.parametrize(
    "lines",
    [
        ("GET / HTTP/1.1", "no colon"),
        ("GET / HTTP/9.9",),
        ("G@T / HTTP/1.1",),
        ("GET /",),
        ("PRI * HTTP/2.0",),
        ("POST / HTTP/1.1", "Content-Length: x"),
        ("POST / HTTP/1.1", "Content-Length: -1"),
        ("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
        ("POST / HTTP/1.1", "Content-Length: 999999999999999999999"),
        ("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
        ("POST / HTTP/1.1", "Transfer-Encoding: identity"),
        ("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ("POST / HTTP/1.0", "Transfer-Encoding: chunked"),
        ("GET / HTTP/1.1", "Host: a", "Host: a"),
        ("GET / HTTP/1.0", "Host: a", "Host: a"),
        ("CONNECT nowhere HTTP/1.1",),
        ("GET / HTTP/1.1", "X: a\x00b"),
        ("",),
    ],
)
def test_a_malformed_head_is_refused(lines):
    error = refused(*lines)
    assert (error.code, error.reason) == (400, "malformed")


def test_a_head_without_host_is_refused():
    with pytest.raises(RefusedError, match="Host"):
        parse_head(b"GET / HTTP/1.1\r\n\r\n", LIMITS)


def test_two_tokens_are_none():
    error = refused("GET / HTTP/1.1", "Authorization: Bearer a", "Authorization: Bearer b")
    assert (error.code, error.reason) == (401, "unauthorized")


def test_too_many_headers_are_refused():
    error = refused("GET / HTTP/1.1", *(f"X{index}: 1" for index in range(5)))
    assert (error.code, error.reason) == (431, "too_many_headers")
    assert "4 headers" in str(error)
