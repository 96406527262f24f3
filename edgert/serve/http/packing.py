"""Compresses the answers of inferences for clients that accept it, long ones on a thread aside."""

from __future__ import annotations

import functools
import re
import zlib

import msgspec

from edgert.serve.bodies import GrowingBody
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.handling import run_aside
from edgert.serve.http.message import Answer, Buffer
from edgert.serve.inflate import WINDOW_BITS

INLINE_BYTES = 1 << 14
_LEVEL = 1  # the fastest
_KNOWN = (*WINDOW_BITS, "identity")
_CODING = re.compile(r"\s*([\w-]+)\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")


@functools.lru_cache(maxsize=64)
def accepted_encoding(header: bytes) -> str:
    """Return the first of what an Accept-Encoding likes most; empty: an answer goes as it is."""
    weights: dict[str, float] = {}
    for part in header.decode("latin-1").lower().split(","):
        match = _CODING.fullmatch(part)
        if match is not None and match[1] in _KNOWN:
            weights.setdefault(match[1], float(match[2] or 1))
    best = max(weights, key=weights.__getitem__, default="identity")
    return best if best in WINDOW_BITS and weights[best] else ""


def reply_packed(exchange: Exchange, answer: Answer, encoding: str) -> None:
    """Answer, now or soon. Copies the body's buffers. Raises FullError."""
    if answer.body_bytes <= INLINE_BYTES:
        exchange.reply(_packed(answer, b"".join(answer.body), encoding))
        return
    body = GrowingBody(exchange.site.gate.bodies, answer.body_bytes)
    for piece in answer.body:
        body.add(piece)
    head = msgspec.structs.replace(answer, body=())
    run_aside(lambda _: exchange.reply(_packed(head, body, encoding)), exchange)


def _packed(answer: Answer, body: Buffer, encoding: str) -> Answer:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, WINDOW_BITS[encoding])
    headers = (*answer.headers, ("Content-Encoding", encoding))
    return msgspec.structs.replace(answer, body=(packer.compress(body), packer.flush()), headers=headers)
