"""Reading JSON and MessagePack as it is published, and whatever else arrives."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.frames.result import Classes, Detections, Result, Tensors
from edgert.listen.payloads import (
    Findings,
    PayloadError,
    findings_of,
    read_birth,
    read_body,
    read_part,
    read_result,
    read_state,
)
from edgert.publish.encodings import make_encoder
from tests.unit.listen.heard import body, label, result

OUTPUTS = {
    "detections": Detections(
        np.zeros((3, 4), "f4"), np.array([0.9, 0.8, np.nan], "f4"), np.array([1, 0, 1]), ["cat", "dog"]
    ),
    "classes": Classes(np.array([0.75, 0.25], "f4"), np.array([1, 0]), ["cat", "dog"]),
    "tensors": Tensors({"a": np.zeros((2, 2), "f4"), "b": np.zeros(3, "i8")}),
}
FOUND = {
    "detections": Findings("detections", (("dog", 2), ("cat", 1)), 3, 0.9),
    "classes": Findings("classes", (("dog", 1),), 2, 0.75),
    "tensors": Findings("tensors", (), 2, None),
}


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_edgert_encodes_is_read(encoding, kind):
    encoder = make_encoder(encoding, "n", "b1", utc_ns=lambda: 7, mono_ns=lambda: 3_000_000)
    payload = encoder.encode(Result("porch", 9, "m", 1, 5, 1_000_000, 8, 8, OUTPUTS[kind]), historical=True)
    read = read_result(payload)
    assert (read.boot, read.source, read.seq, read.model) == ("b1", "porch", 9, "m")
    assert (read.latency_ms, read.historical) == (2.0, True)
    assert findings_of(read) == FOUND[kind]
    assert read_body(payload)["seq"] == 9


@pytest.mark.parametrize("form", [msgspec.json, msgspec.msgpack])
@pytest.mark.parametrize(
    "change",
    [
        {"seq": -1},
        {"seq": 1 << 63},
        {"seq": "1"},
        {"latency_ms": 1e13},
        {"latency_ms": math.nan},
        {"schema": "edgert.result/2"},
        {"classes": [1]},
        {"boot": None},
    ],
    ids=str,
)
def test_a_result_with_a_wrong_part_is_refused(form, change):
    with pytest.raises(PayloadError):
        read_result(form.encode({**body(), **change}))


@given(st.binary(max_size=80))
@pytest.mark.parametrize("read", [read_result, read_part, read_birth, read_body])
def test_any_bytes_are_read_or_refused(read, payload):
    try:
        value = read(payload)
    except PayloadError:
        return
    assert value is not None


def test_deep_nesting_is_refused():
    with pytest.raises(PayloadError):
        read_body(b'{"a":' + b"[" * 100_000)


def test_spaces_before_json_are_allowed():
    assert read_body(b' \n{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("payload", [b"", b"not ready", b"\xffready", b"{}", b"\x1b[2J"])
def test_a_state_is_one_word(payload):
    assert read_state(b"draining") == "draining"
    with pytest.raises(PayloadError):
        read_state(payload)


def test_only_the_most_frequent_labels_are_kept():
    found = findings_of(result(detections=[label(str(index % 20), 0.1) for index in range(50)]))
    assert len(found.counts) == 8
    assert found.counts[0] == ("0", 3)
    assert found.total == 50


def test_nothing_found_has_no_score():
    assert findings_of(result(detections=[])) == Findings("detections", (), 0, None)
    assert findings_of(result(classes=[label("cat", None)])).best_score is None
