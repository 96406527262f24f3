"""The bytes of Sparkplug B payloads, against a decoder of the tests' own."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.errors import SinkError
from edgert.publish.sparkplug_payload import DataType, Metric, Value, decode_values, encode
from tests.fakes.sparkplug_host import FIELD_OF_TYPE, decode, encode_command

FLOATS = st.floats(width=32, allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CONTENTS = {
    DataType.INT32: st.integers(0, 2**31 - 1),
    DataType.INT64: st.integers(0, 2**63 - 1),
    DataType.FLOAT: FLOATS,
    DataType.BOOLEAN: st.booleans(),
    DataType.STRING: TEXTS,
}


def test_the_bytes_of_a_payload():
    metric = Metric("a", Value(DataType.INT32, 300), utc_ms=2, is_historical=True)
    inner = b"\x0a\x01a\x18\x02\x20\x03\x28\x01\x50\xac\x02"
    assert encode([metric], 1, 0) == b"\x08\x01\x12" + bytes([len(inner)]) + inner + b"\x18\x00"


def test_a_float_is_32_bits_wide():
    payload = encode([Metric("a", Value(DataType.FLOAT, 0.1), 0)], 1, 0)
    assert payload.count(b"\x65" + struct.pack("<f", 0.1)) == 1


def test_a_null_has_a_type_and_no_value():
    decoded = decode(encode([Metric("a", Value(DataType.STRING, None), 0)], 1, None))
    assert "seq" not in decoded
    assert decoded["metrics"]["a"] == {
        "name": "a",
        "timestamp": 0,
        "datatype": 12,
        "is_null": True,
        "field": None,
    }


def values():
    return st.sampled_from(list(CONTENTS)).flatmap(
        lambda datatype: st.builds(Value, st.just(datatype), st.none() | CONTENTS[datatype])
    )


@given(
    named=st.dictionaries(TEXTS, values(), max_size=5),
    seq=st.integers(0, 255),
    utc_ms=st.integers(0, 2**63 - 1),
)
def test_any_metrics_arrive_as_they_were(named, seq, utc_ms):
    payload = encode((Metric(name, named[name], utc_ms) for name in named), 5, seq)
    decoded = decode(payload)
    assert (decoded["timestamp"], decoded["seq"]) == (5, seq)
    assert decoded["metrics"].keys() == named.keys()
    for name, value in named.items():
        metric = decoded["metrics"][name]
        assert metric["timestamp"] == utc_ms
        assert metric["datatype"] == value.datatype
        assert metric.get("value") == value.content
        assert metric["field"] == (None if value.content is None else FIELD_OF_TYPE[value.datatype])
    assert decode_values(payload) == {name: value.content for name, value in named.items()}


def test_what_edgert_does_not_know_is_passed_over():
    """A metric's metadata (8) and properties (9), and an extension of the payload (100)."""
    metric = b"\x0a\x01a\x42\x02\x10\x01\x4a\x00\x70\x01"
    payload = b"\x12" + bytes([len(metric)]) + metric + b"\xa0\x06\x07"
    assert decode_values(payload) == {"a": True}


def test_a_command_without_a_value():
    assert decode_values(b"\x12\x03\x0a\x01a") == {"a": None}
    assert decode_values(encode_command("a", False)) == {"a": False}


@pytest.mark.parametrize("payload", [b"\xff", b"true", encode_command("a", True)[:-1]])
def test_other_bytes_are_refused(payload):
    with pytest.raises(SinkError, match=f"{len(payload)} bytes are not a Sparkplug B payload"):
        decode_values(payload)
