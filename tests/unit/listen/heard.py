"""Messages as a node publishes them, and a clock that tests move."""

from __future__ import annotations

import msgspec

from edgert.listen.counts import Instant
from edgert.listen.link import LinkState
from edgert.listen.payloads import HeardResult
from edgert.publish.session import Received

RESULT_TOPIC = "edgert/n/source/porch/result/m"
UTC_NS = 1_800_000_000_000_000_000


def at(seconds: float) -> Instant:
    """Return the moment so many seconds after the first."""
    return Instant(int(seconds * 1e9), UTC_NS + int(seconds * 1e9))


def body(seq: int = 0, **fields) -> dict:
    """Return what a result says, with one class unless `fields` say otherwise."""
    outputs = {} if {"detections", "tensors"} & {*fields} else {"classes": [label("cat", 0.5)]}
    return {
        "schema": "edgert.result/1",
        "node": "n",
        "boot": "b1",
        "source": "porch",
        "seq": seq,
        "model": "m",
        "version": 1,
        "latency_ms": 2.0,
        "historical": False,
        **outputs,
        **fields,
    }


def label(name: str, score: float | None) -> dict:
    return {"label": name, "class_index": 0, "score": score}


def result(seq: int = 0, **fields) -> HeardResult:
    return msgspec.convert(body(seq, **fields), HeardResult)


def message(seq: int = 0, topic: str = RESULT_TOPIC, **fields) -> Received:
    return Received(topic, msgspec.json.encode(body(seq, **fields)))


def retained(topic: str, payload: bytes) -> Received:
    return Received(topic, payload, is_retained=True)


CONNECTED = LinkState(True, "connected to it")
