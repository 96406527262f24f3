"""Runs the job that answers a request, here or on another thread."""

from __future__ import annotations

import functools
import logging
import zlib
from collections.abc import Callable

from edgert.errors import EdgertError
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import RefusedError
from edgert.serve.http.site import Job, Later, Site

log = logging.getLogger(__name__)

INLINE_JSON_BYTES = 1 << 18  # more of it would hold up the other connections
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}


def handle(job: Job, exchange: Exchange, site: Site) -> None:
    """Run a job. Whatever goes wrong in it is the answer."""
    where = "aside" if job.where == "here" and _is_long(exchange) else job.where
    if where != "here":
        site.executors[where].submit(_run_to_the_end, job, exchange, site)
        return
    later = _run(functools.partial(job.run, exchange), exchange, site)
    if later is not None:
        site.executors["aside"].submit(_run, later, exchange, site)


def check_encoding(encoding: bytes) -> None:
    """Raise RefusedError for a Content-Encoding that `inflate` does not know."""
    if encoding.lower() not in (*_WINDOW_BITS, b"", b"identity"):
        raise RefusedError(
            501, "unknown_encoding", "Unsupported compression type; gzip and deflate are known"
        )


def inflate(body: memoryview, encoding: bytes, limit_bytes: int) -> memoryview:
    """Return what a compressed body holds. Raises RefusedError, also if that is over the limit."""
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        whole = inflater.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise RefusedError(400, "malformed", f"the body is no {encoding.decode()}: {error}") from None
    if len(whole) > limit_bytes:
        raise RefusedError(413, "body_too_large", f"a request may have {limit_bytes} bytes when inflated")
    if not inflater.eof or inflater.unused_data:
        raise RefusedError(400, "malformed", f"the body is not one whole {encoding.decode()} stream")
    return memoryview(whole)


def _encoding(exchange: Exchange) -> bytes:
    encoding = exchange.head.headers.get(b"content-encoding", b"").lower()
    return encoding if encoding in _WINDOW_BITS else b""


def _is_long(exchange: Exchange) -> bool:
    if _encoding(exchange):
        return True
    if len(exchange.body) <= INLINE_JSON_BYTES:
        return False
    header = exchange.head.headers.get(b"inference-header-content-length", b"")
    return not header.isdigit() or len(header) > 9 or int(header) > INLINE_JSON_BYTES


def _run_to_the_end(job: Job, exchange: Exchange, site: Site) -> None:
    def run() -> None:
        encoding = _encoding(exchange)
        if encoding:
            exchange.body = inflate(exchange.body, encoding, site.limits.request_mb << 20)
        later = job.run(exchange)
        if later is not None:
            later()

    _run(run, exchange, site)


def _run(call: Callable[[], Later | None], exchange: Exchange, site: Site) -> Later | None:
    try:
        return call()
    except EdgertError as error:
        if isinstance(error, RefusedError):
            site.counts.add(error.reason)
        exchange.fail(error)
    except Exception:  # a fault of edgert's own: the client hears of it, and the connection goes on
        log.exception("http: %s %s failed", exchange.head.method, exchange.head.path)
        exchange.fail(EdgertError("internal error; see the log"))
    return None
