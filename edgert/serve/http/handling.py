"""Runs the job that answers a request, here or on another thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edgert.errors import CancelledError, EdgertError
from edgert.serve.bodies import GrowingBody
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import RefusedError, refusal_of
from edgert.serve.http.site import Job, Later, Site
from edgert.serve.inflate import WINDOW_BITS, inflate_into

log = logging.getLogger(__name__)

INLINE_JSON_BYTES = 1 << 18  # more of it would hold up the other connections


def handle(job: Job, exchange: Exchange, site: Site) -> None:
    """Run a job. Whatever goes wrong in it is the answer."""
    where = "aside" if job.where == "here" and _is_long(exchange) else job.where
    if where != "here":
        site.executors[where].submit(_run_to_the_end, job, exchange, site)
        return
    later = _run(job.run, exchange, site)
    if later is not None:
        run_aside(lambda _: later(), exchange)


def run_aside(call: Callable[[Exchange], None], exchange: Exchange) -> None:
    """Let another thread reply. Whatever goes wrong in it is the answer."""
    exchange.site.executors["aside"].submit(_run, call, exchange, exchange.site)


def check_encoding(encoding: bytes) -> None:
    """Raise RefusedError for a Content-Encoding that cannot be inflated."""
    if encoding.decode("latin-1").lower() not in (*WINDOW_BITS, "", "identity"):
        raise RefusedError(
            501, "unknown_encoding", "Unsupported compression type; gzip and deflate are known"
        )


def _encoding(exchange: Exchange) -> str:
    encoding = exchange.head.headers.get(b"content-encoding", b"").decode("latin-1").lower()
    return encoding if encoding in WINDOW_BITS else ""


def _is_long(exchange: Exchange) -> bool:
    if b"content-encoding" in exchange.head.headers and _encoding(exchange):
        return True
    if len(exchange.body) <= INLINE_JSON_BYTES:
        return False
    header = exchange.head.headers.get(b"inference-header-content-length", b"")
    return not header.isdigit() or len(header) > 9 or int(header) > INLINE_JSON_BYTES


def _run_to_the_end(job: Job, exchange: Exchange, site: Site) -> None:
    def run(exchange: Exchange) -> None:
        encoding = _encoding(exchange)
        if encoding:
            body = GrowingBody(site.gate.bodies, site.limits.request_mb << 20)
            inflate_into(body, exchange.body, encoding)
            exchange.body = memoryview(body)
        later = job.run(exchange)
        if later is not None:
            later()

    _run(run, exchange, site)


def _run(call: Callable[[Exchange], Later | None], exchange: Exchange, site: Site) -> Later | None:
    try:
        if exchange.is_gone:
            raise CancelledError("the client is gone")
        return call(exchange)
    except EdgertError as error:
        if refusal := refusal_of(error):
            site.counts.add(refusal)
        exchange.fail(error)
    except Exception:  # a fault of edgert's own: the client hears of it, and the connection goes on
        log.exception("http: %s %s failed", exchange.head.method, exchange.head.path)
        exchange.fail(EdgertError("internal error; see the log"))
    return None
