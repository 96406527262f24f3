"""What a call's headers say of it."""

from __future__ import annotations

import re
from math import inf

from edgert.errors import RequestError
from edgert.serve.grpc.transport.hpack import Headers

_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+; ]|$)", re.IGNORECASE)  # +proto and the like
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def http_fault(headers: Headers) -> int:
    """Return the HTTP status of what is no call of gRPC; 0 for one that is."""
    if headers.get(b":method") != b"POST":
        return 405
    return 0 if _CONTENT_TYPE.match(headers.get(b"content-type", b"")) else 415


def encoding_of(headers: Headers) -> str:
    """Return what the call's messages are compressed with."""
    return headers.get(b"grpc-encoding", b"identity").decode("ascii", "replace")


def timeout_s(headers: Headers) -> float:
    """Return how long the client will wait. Raises RequestError."""
    text = headers.get(b"grpc-timeout")
    if text is None:
        return inf
    match = _TIMEOUT.fullmatch(text)
    if match is None:
        raise RequestError("grpc-timeout is malformed")
    return int(match[1]) * _UNITS_S[match[2]]
