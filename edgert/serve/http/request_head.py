"""Reads the head of a request with httptools."""

from __future__ import annotations

from typing import Any

import httptools

from edgert.serve.http.message import Head, RefusedError
from edgert.serve.options import LimitOptions

_MAX_DIGITS = 18  # of a length; httptools knows no bounds


def parse_head(data: bytes, limits: LimitOptions) -> Head:
    """Return the head that `data` is, its empty line included.

    Raises:
        RefusedError: it is malformed, or over the limits.
    """
    seen = _Seen()
    parser = seen.parser
    _feed(parser, data)
    seen.parser = None  # they refer to each other
    version = parser.get_http_version()
    if not seen.is_complete or version not in ("1.0", "1.1"):
        raise RefusedError(400, "malformed", "malformed request: expected a head of HTTP/1.1 or 1.0")
    if len(seen.fields) > limits.headers:
        raise RefusedError(431, "too_many_headers", f"a request may have {limits.headers} headers")
    _check_fields([name.lower() for name, _ in seen.fields], version)
    headers = {name.lower(): value for name, value in seen.fields}
    path, query = _target(seen.url)
    return Head(
        parser.get_method().decode("latin-1"),
        path,
        headers,
        _body_bytes(headers),
        is_kept_alive=seen.is_kept_alive,
        is_http_1_0=version == "1.0",
        query=query,
    )


def _feed(parser: Any, data: bytes) -> None:
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        return  # the request is answered as if the client had not offered another protocol
    except httptools.HttpParserError as error:
        raise RefusedError(400, "malformed", f"malformed request: {error}") from None


class _Seen:
    """Keeps what the parser calls out."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.is_complete = False
        self.is_kept_alive = False
        self.parser: Any = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.is_complete = True
        self.is_kept_alive = self.parser.should_keep_alive()  # later it would speak of the next request


def _check_fields(names: list[bytes], version: str) -> None:
    """See that what says where a request ends, where it goes and whose it is says so once."""
    if names.count(b"authorization") > 1:
        raise RefusedError(401, "unauthorized", "expected one header Authorization")
    if names.count(b"host") > 1 or (version == "1.1" and b"host" not in names):
        raise RefusedError(400, "malformed", "malformed request: expected one header Host")
    if names.count(b"transfer-encoding") > (version == "1.1"):
        raise RefusedError(
            400, "malformed", "malformed request: expected one Transfer-Encoding, and that of HTTP/1.1"
        )


def _target(url: bytes) -> tuple[str, str]:
    """Return path and query."""
    if not url.startswith(b"/"):  # the form that proxies are sent
        try:
            parsed: Any = httptools.parse_url(url)
        except httptools.HttpParserInvalidURLError:
            raise RefusedError(400, "malformed", "malformed request: its address is no path") from None
        url = (parsed.path or b"/") + b"?" + (parsed.query or b"")
    path, _, query = url.partition(b"?")
    return path.decode("latin-1"), query.decode("latin-1")


def _body_bytes(headers: dict[bytes, bytes]) -> int | None:
    encoding = headers.get(b"transfer-encoding")
    if encoding is not None:
        if b"content-length" in headers or encoding.strip().lower() != b"chunked":
            raise RefusedError(
                400, "malformed", "a body comes either in chunks or with its length, in no other coding"
            )
        return None
    length = headers.get(b"content-length", b"0").strip()
    if not length.isdigit() or len(length) > _MAX_DIGITS:
        raise RefusedError(400, "malformed", "Content-Length is no length")
    return int(length)
