"""Requests that are wrong in some place, from a seed: the same every time."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any

from tests.serve_bench.places import HOST

PATH = "/v2/models/identity/infer"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ODD_NUMBERS: tuple[Any, ...] = (None, True, -1, 0, 2**31, 2**63, 2**64, 1e308)
ODD_TEXTS: tuple[Any, ...] = ("", "x" * 2000, "FP99", "BYTES", "\ud83d", "INPUT1")
ODD_LISTS: tuple[Any, ...] = ([], {}, [[]], [[1, 2], [3]], [-1, 16], [2**62, 4], [None])
ODD_SIZES: tuple[Any, ...] = ({"binary_data_size": -1}, {"binary_data_size": 2**40})
ODD_VALUES = (*ODD_NUMBERS, *ODD_TEXTS, *ODD_LISTS, *ODD_SIZES)
ODD_HEADERS = (
    b"Content-Length: -5",
    b"Content-Length: 99999999999999999999",
    b"Content-Length: 1e3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Inference-Header-Content-Length: -1",
    b"Inference-Header-Content-Length: 4096",
    b"Inference-Header-Content-Length: x",
    b"Content-Encoding: gzip",
    b"Content-Encoding: br",
    b"Host:",
    b" folded",
    b"no colon",
    b"X: " + b"y" * 40_000,
    b"\x00: z",
    b"Expect: 100-continue",
    b"Upgrade: h2c",
    b"Connection: close",
    b"NV-InferRequest: \xff\xfe",
)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Return bytes with something wrong in one to four places."""
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        data = data[:at] + dice.choice(_WAYS)(data[at:], dice) or b"\0"
    return data


def _other_byte(rest: bytes, dice: random.Random) -> bytes:
    return dice.randbytes(1) + rest[1:]


def _nothing(rest: bytes, dice: random.Random) -> bytes:
    return b""


def _more(rest: bytes, dice: random.Random) -> bytes:
    return dice.randbytes(dice.randint(1, 40)) + rest


def _less(rest: bytes, dice: random.Random) -> bytes:
    return rest[dice.randint(1, 20) :]


def _twice(rest: bytes, dice: random.Random) -> bytes:
    return rest[: dice.randrange(len(rest) + 1)] + rest


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (_other_byte, _nothing, _more, _less, _twice)


def http_body(body: bytes, json_bytes: int, dice: random.Random) -> bytes:
    """Return a request with a proper head and a malformed body."""
    if dice.random() < 0.5:
        document = json.loads(body[:json_bytes])
        put_odd(document, dice)
        text = json.dumps(document).encode()
        return _http(text + body[json_bytes:], len(text))
    length = json_bytes if dice.random() < 0.7 else dice.randrange(2 * len(body))
    return _http(mutated(body, dice), length)


def http_head(body: bytes, json_bytes: int, dice: random.Random) -> bytes:
    """Return a request with a malformed head."""
    request = _http(body, json_bytes)
    head, _, rest = request.partition(b"\r\n\r\n")
    if dice.random() < 0.5:
        lines = head.split(b"\r\n")
        lines.insert(dice.randint(1, len(lines)), dice.choice(ODD_HEADERS))
        return b"\r\n".join([*lines, b"", rest])
    return mutated(head, dice) + b"\r\n\r\n" + rest


def first_api(dice: random.Random) -> bytes:
    """Return a request of the server's first API with a malformed header that describes it."""
    text = b'batch_size: 1 input { name: "INPUT0" dims: 16 } output { name: "OUTPUT0" byte_size: 64 }'
    wrong = mutated(text, dice).replace(b"\r", b"").replace(b"\n", b"")
    body = dice.randbytes(dice.choice((0, 63, 64, 65)))
    lines = [b"POST /api/infer/identity HTTP/1.1", b"Host: x", b"NV-InferRequest: " + wrong]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def http2_frames(message: bytes, dice: random.Random) -> bytes:
    """Return a gRPC call as HTTP/2 has it, with something wrong in its frames."""
    headers = b"".join(
        b"\0" + _text(name) + _text(value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", METHOD.encode()),
            (b":authority", HOST.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    data = b"\0" + struct.pack(">I", len(message)) + message
    call = _frame(4, 0, 0, b"") + _frame(1, 4, 1, headers) + _frame(0, 1, 1, data)
    return PREFACE + mutated(call, dice)


def put_odd(document: Any, dice: random.Random) -> None:
    """Put an odd value into some place of a JSON document, or take the place away."""
    places = list(_places(document))
    holder, key = dice.choice(places)
    if isinstance(holder, dict) and dice.random() < 0.2:
        del holder[key]
    else:
        holder[key] = dice.choice(ODD_VALUES)


def _places(tree: Any) -> list[tuple[Any, Any]]:
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    return [place for key in keys for place in ((tree, key), *_places(tree[key]))]


def _http(body: bytes, json_bytes: int) -> bytes:
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {json_bytes}\r\n\r\n"
    )
    return head.encode() + body


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _text(value: bytes) -> bytes:
    return bytes((len(value),)) + value
