"""One result in every encoding."""

from __future__ import annotations

import json
import math
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jsonschema import Draft202012Validator

from edgert.frames.result import Classes, Detections, Result, Tensors
from edgert.publish.encodings import Encoding, make_encoder
from edgert.publish.payload import ResultEncoder, ResultPayload, result_schema

NAMES = get_args(Encoding)
VALIDATOR = Draft202012Validator(result_schema())
LABELS = ["person", "bicycle", 'Überraschung "☃"']


def encoder(name, boot="b00t"):
    return make_encoder(name, "n1", boot, utc_ns=lambda: 6_000_000_000, mono_ns=lambda: 1_012_345_678)


def result(output, **fields):
    values = {"source": "porch", "seq": 7, "model": "detector", "version": 3, "width": 640, "height": 480}
    times = {"captured_utc_ns": 5_000_000_000, "captured_mono_ns": 1_000_000_000}
    return Result(output=output, **{**values, **times, **fields})


def both(output, historical=False):
    """Return a result's JSON and MessagePack, decoded."""
    made = result(output)
    text = encoder("json").encode(made, historical)
    packed = encoder("msgpack").encode(made, historical)
    return json.loads(text, parse_constant=pytest.fail), msgspec.msgpack.decode(packed)


def test_each_encoding_says_its_media_type():
    assert {name: encoder(name).content_type for name in NAMES} == {
        "json": "application/json",
        "msgpack": "application/msgpack",
        "deepstream_minimal": "application/json",
        "deepstream_full": "application/json",
    }


def test_json_is_the_native_payload(make_result):
    clocks = {"utc_ns": lambda: 6, "mono_ns": lambda: 9}
    expected = ResultEncoder("n1", "b00t", **clocks).encode(make_result(), historical=True)
    assert make_encoder("json", "n1", "b00t", **clocks).encode(make_result(), historical=True) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("boot", "shown"), [("", "b00t"), ("0lder", "0lder")])
def test_the_key_is_in_every_encoding(make_result, name, boot, shown):
    payload = encoder(name).encode(make_result(seq=41_234, boot=boot))
    for part in (shown, "porch", "detector"):
        assert part.encode() in payload
    decoded = msgspec.msgpack.decode(payload) if name == "msgpack" else json.loads(payload)
    seq = decoded["seq"] if "seq" in decoded else int(decoded["customMessage"][0].split("/")[2])
    assert seq == 41_234


@pytest.mark.parametrize("name", NAMES)
def test_one_encoder_encodes_many(make_result, name):
    one = encoder(name)
    payloads = [one.encode(make_result(seq)) for seq in (3, 100_000, 4)]
    assert payloads == [encoder(name).encode(make_result(seq)) for seq in (3, 100_000, 4)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("historical", [False, True])
def test_every_encoding_marks_what_is_not_live(make_result, name, historical):
    live = encoder(name).encode(make_result())
    assert (encoder(name).encode(make_result(), historical) != live) == historical


def test_msgpack_reads_as_the_typed_payload():
    packed = encoder("msgpack").encode(
        result(Classes(np.array([0.9], "f4"), np.array([1]), LABELS)), historical=True
    )
    payload = msgspec.msgpack.decode(packed, type=ResultPayload)
    assert (payload.boot, payload.source, payload.seq, payload.model) == ("b00t", "porch", 7, "detector")
    assert (payload.latency_ms, payload.historical, payload.size) == (12.346, True, (640, 480))
    assert payload.classes[0].label == "bicycle"
    assert payload.detections is msgspec.UNSET


def test_tensors_are_half_as_large_in_msgpack():
    made = result(Tensors({"out": np.linspace(0, 1, 1000, dtype="f4")}))
    assert len(encoder("msgpack").encode(made)) < 0.6 * len(encoder("json").encode(made))


FLOATS = st.floats(width=32)


@st.composite
def outputs(draw):
    count = draw(st.integers(0, 5))
    scores = draw(hnp.arrays("f4", count, elements=FLOATS))
    indices = draw(hnp.arrays("i8", count, elements=st.integers(-1, 9)))
    if draw(st.booleans()):
        return Classes(scores, indices, LABELS)
    boxes = draw(hnp.arrays("f4", (count, 4), elements=FLOATS))
    points = draw(st.none() | hnp.arrays("f4", (count, 2, 2), elements=FLOATS))
    return Detections(boxes, scores, indices, LABELS, points)


@given(output=outputs(), historical=st.booleans())
def test_msgpack_says_what_json_says(output, historical):
    from_json, from_msgpack = both(output, historical)
    assert from_msgpack == from_json
    VALIDATOR.validate(from_msgpack)


@given(
    array=hnp.arrays(
        hnp.scalar_dtypes().filter(lambda d: d.kind in "biuf" and d.itemsize <= 8),
        hnp.array_shapes(min_side=0),
    )
)
def test_msgpack_says_what_json_says_of_any_tensor(array):
    from_json, from_msgpack = both(Tensors({"out": array}))
    assert from_msgpack == from_json
    VALIDATOR.validate(from_msgpack)


def test_a_number_that_is_not_finite_is_null_in_msgpack_too():
    boxes = np.array([[math.nan, math.inf, -math.inf, 1]], "f4")
    _, packed = both(Detections(boxes, np.array([math.nan], "f4"), np.array([0]), LABELS))
    assert packed["detections"][0]["box_xyxy_px"] == [None, None, None, 1.0]
    assert packed["detections"][0]["score"] is None
