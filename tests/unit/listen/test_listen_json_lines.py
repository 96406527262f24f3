"""JSON for programs: what was published, with its topic."""

from __future__ import annotations

import io
import json

import msgspec
import pytest

from edgert.listen.json_lines import JsonLines
from edgert.listen.link import LinkState
from edgert.listen.watch import Watch
from edgert.publish.session import Received
from tests.unit.listen.heard import RESULT_TOPIC, UTC_NS, at, body, message, retained


@pytest.fixture
def tell():
    """Return a function that says what becomes of some messages."""

    def tell(*messages):
        out, watch = io.StringIO(), Watch("edgert")
        display = JsonLines(out)
        display.open()
        for received in messages:
            display.heard(received, watch.feed(received, at(0)), at(0))
            display.tick(watch, at(0))
        display.close()
        display.summarize(watch, 2.0, at(2))
        return [json.loads(line) for line in out.getvalue().splitlines()]

    return tell


def test_a_result_is_as_it_was_published(tell):
    assert tell(message(7, more={"deep": [1, None]}))[0] == {
        **body(7, more={"deep": [1, None]}),
        "topic": RESULT_TOPIC,
    }


def test_a_result_in_messagepack_is_told_as_json(tell):
    payload = msgspec.msgpack.encode(body(3, raw=b"\x00\xff"))
    assert tell(Received(RESULT_TOPIC, payload))[0] == {**body(3, raw="AP8="), "topic": RESULT_TOPIC}


def test_states_and_birth(tell):
    told = tell(
        retained("edgert/n/state", b"ready"),
        Received("edgert/n/state", b"ready"),
        retained("edgert/n/birth", b'{"boot":"b","device":{"name":"x"}}'),
        Received("edgert/n/source/s/state", b'{"state":"online","frames":3}'),
        Received("edgert/n/source/s/state", b""),
    )
    assert told[:-1] == [
        {"state": "ready", "retained": True, "topic": "edgert/n/state"},
        {"state": "ready", "retained": False, "topic": "edgert/n/state"},
        {"boot": "b", "device": {"name": "x"}, "retained": True, "topic": "edgert/n/birth"},
        {"state": "online", "frames": 3, "retained": False, "topic": "edgert/n/source/s/state"},
        {"removed": True, "topic": "edgert/n/source/s/state"},
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        msgspec.msgpack.encode({**body(), "odd": {(1, 2): 1}}),  # JSON has no such key
        msgspec.msgpack.encode({**body(), "odd": msgspec.msgpack.Ext(3, b"x")}),
        msgspec.json.encode(body()).replace(b'"cat"', b'"\\ud800"'),
        msgspec.json.encode(body()).replace(b"cat", b"\xff\xfe"),
    ],
    ids=["cut", "key", "extension", "surrogate", "not UTF-8"],
)
def test_what_cannot_be_told_is_said_to_be_malformed(tell, payload):
    told = tell(Received(RESULT_TOPIC, payload))[0]
    assert {*told} == {"malformed", "topic"}
    assert told["malformed"]


def test_the_last_object_is_the_summary(tell):
    told = tell(
        retained("edgert/n/state", b"ready"),
        retained("edgert/n/model/m/state", b'{"state":"READY"}'),
        message(0),
        message(3),
        message(3),
        message(2, historical=True),
        Received(RESULT_TOPIC, b"?"),
    )
    node = {"node": "n", "state": "ready", "restarts": 0, "sources": {}, "models": {"m": "READY"}}
    totals = {"results": 4, "duplicates": 1, "out_of_order": 1, "historical": 1, "missing": 1, "unheard": 0}
    latency = {"p50_ms": 2.0, "p99_ms": 2.0, "max_ms": 2.0}
    assert told[-1] == {
        "summary": {
            "elapsed_s": 2.0,
            "utc_ns": UTC_NS + 2 * 10**9,
            "count": 4,
            "malformed": 1,
            "forgotten": 0,
            "nodes": [node],
            "results": [{"node": "n", "source": "porch", "model": "m", **totals, "latency": latency}],
        }
    }


def test_the_connection_is_told_too():
    out = io.StringIO()
    display = JsonLines(out)
    display.link_changed(LinkState(True, "connected"), at(0))
    display.link_changed(LinkState(False, "gone"), at(0))
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"connection": "connected", "message": "connected", "utc_ns": UTC_NS},
        {"connection": "lost", "message": "gone", "utc_ns": UTC_NS},
    ]
