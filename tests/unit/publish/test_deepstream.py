"""DeepStream's messages, against the schemas that ship."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jsonschema import Draft202012Validator

from edgert.errors import ConfigError
from edgert.frames.result import Classes, Detections, Result, Tensors
from edgert.publish.deepstream import UNTRACKED, deepstream_schema
from edgert.publish.encodings import make_encoder

VALIDATORS = {which: Draft202012Validator(deepstream_schema(which)) for which in ("minimal", "full")}
LABELS = ["person", "a|b", "bbox"]
KEY = "b00t/porch/7/detector"


def detections(count=2, **fields):
    arrays = {
        "boxes_xyxy_px": np.array([[10.26, 20, 110.5, 220], [0, 1, 2, 3]], "f4")[:count],
        "scores": np.array([0.91239, 0.5], "f4")[:count],
        "class_indices": np.array([0, 5])[:count],
        "labels": LABELS,
    }
    return Detections(**{**arrays, **fields})


def published(which, output, historical=False, **fields):
    """Encode, check that it is strict JSON and follows the schema, and return it decoded."""
    values = {"source": "porch", "seq": 7, "model": "detector", "version": 3, "width": 640, "height": 480}
    times = {"captured_utc_ns": 1_523_422_799_828_999_999, "captured_mono_ns": 0}
    result = Result(output=output, **{**values, **times, **fields})
    payload = make_encoder(f"deepstream_{which}", "n1", "b00t").encode(result, historical)
    decoded = json.loads(payload, parse_constant=pytest.fail)
    VALIDATORS[which].validate(decoded)
    return decoded


@pytest.mark.parametrize("which", VALIDATORS)
def test_the_schemas_are_schemas(which):
    Draft202012Validator.check_schema(deepstream_schema(which))


def test_a_minimal_message_as_published():
    assert published("minimal", detections()) == {
        "version": "4.0",
        "id": "7",
        "@timestamp": "2018-04-11T04:59:59.828Z",
        "sensorId": "porch",
        "objects": [
            "18446744073709551615|10.3|20|110.5|220|person|#|0.9124",
            "18446744073709551615|0|1|2|3|5|#|0.5",
        ],
        "customMessage": [KEY],
    }


def test_a_full_message_as_published():
    person = {
        "id": "18446744073709551615",
        "speed": 0.0,
        "direction": 0.0,
        "orientation": 0.0,
        "person": {"confidence": 0.9124},
        "bbox": {"topleftx": 10, "toplefty": 20, "bottomrightx": 110, "bottomrighty": 220},
        "location": {},
        "coordinate": {},
    }
    assert published("full", detections(1)) == {
        "messageid": KEY,
        "mdsversion": "1.0",
        "@timestamp": "2018-04-11T04:59:59.828Z",
        "place": {"id": "n1", "name": "n1", "type": "node"},
        "sensor": {"id": "porch", "type": "Camera", "description": ""},
        "analyticsModule": {"id": "detector", "description": "", "source": "edgert", "version": "3"},
        "object": person,
        "event": {"id": KEY, "type": ""},
        "videoPath": "",
        "objects": [person],
        "customMessage": [KEY],
    }


def test_full_has_the_best_object_and_all():
    message = published("full", detections())
    assert message["object"] == message["objects"][0]
    assert [list(one.keys() & {"person", "5"}) for one in message["objects"]] == [["person"], ["5"]]


def test_a_result_without_detections():
    assert published("minimal", detections(0))["objects"] == []
    message = published("full", detections(0))
    assert message["objects"] == []
    assert "object" not in message


def test_classes_are_objects_as_large_as_the_frame():
    output = Classes(np.array([0.9, 0.06], "f4"), np.array([0, 4]), LABELS)
    assert published("minimal", output)["objects"] == [
        f"{UNTRACKED}|0|0|640|480|person|#|0.9",
        f"{UNTRACKED}|0|0|640|480|4|#|0.06",
    ]
    message = published("full", output)
    whole = {"topleftx": 0, "toplefty": 0, "bottomrightx": 640, "bottomrighty": 480}
    assert [one["bbox"] for one in message["objects"]] == [whole, whole]
    assert message["object"]["person"] == {"confidence": 0.9}


@pytest.mark.parametrize("which", VALIDATORS)
def test_tensors_are_refused_with_a_way_out(which):
    with pytest.raises(ConfigError, match=r"^Model detector publishes tensors.*json or msgpack"):
        published(which, Tensors({"out": np.zeros(3)}))


@pytest.mark.parametrize("which", VALIDATORS)
def test_what_waited_for_its_receiver_says_so(which):
    assert published(which, detections(), historical=True)["customMessage"] == [KEY, "historical"]


@pytest.mark.parametrize("which", VALIDATORS)
def test_an_older_start_stays_in_the_key(which):
    assert published(which, detections(), boot="0lder")["customMessage"] == ["0lder/porch/7/detector"]


def test_a_label_cannot_break_a_line():
    line = published("minimal", detections(1, class_indices=np.array([1])))["objects"][0]
    assert line.split("|")[5:] == ["a/b", "#", "0.9124"]


def test_a_label_cannot_replace_a_member():
    found = published("full", detections(1, class_indices=np.array([2])))["object"]
    assert found["bbox"]["toplefty"] == 20
    assert found["_bbox"] == {"confidence": 0.9124}


def test_numbers_that_are_not_finite_or_huge():
    boxes = np.array([[math.nan, math.inf, -3e38, 3e38]], "f4")
    output = detections(1, boxes_xyxy_px=boxes, scores=np.array([math.nan], "f4"))
    line = published("minimal", output)["objects"][0]
    assert line == f"{UNTRACKED}|nan|nan|-3e+38|3e+38|person|#|nan"
    found = published("full", output)["object"]
    assert list(found["bbox"].values()) == [None, None, -(2**31) + 1, 2**31 - 1]
    assert found["person"] == {"confidence": None}


@pytest.mark.parametrize(
    ("utc_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_999_999, "1970-01-01T00:00:00.001Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
    ],
)
def test_the_timestamp_is_the_capture_to_the_millisecond(utc_ns, text):
    for which in VALIDATORS:
        assert published(which, detections(), captured_utc_ns=utc_ns)["@timestamp"] == text


@pytest.mark.parametrize(
    ("which", "change"),
    [
        ("minimal", {"version": "5.0"}),
        ("minimal", {"id": 7}),
        ("minimal", {"objects": ["1|2|3|4|5|person"]}),
        ("minimal", {"@timestamp": "2018-04-11 04:59:59"}),
        ("minimal", {"customMessage": []}),
        ("full", {"mdsversion": "2.0"}),
        ("full", {"objects": []}),
        ("full", {"object": {}}),
        ("full", {"messageid": "porch/7"}),
    ],
    ids=str,
)
def test_the_schemas_refuse(which, change):
    message = published(which, detections())
    assert not VALIDATORS[which].is_valid({**message, **change})


FLOATS = st.floats(width=32)


@given(
    data=st.data(),
    count=st.integers(0, 4),
    labels=st.lists(st.text(st.characters(codec="utf-8")), max_size=3),
)
def test_any_detections_make_valid_messages_in_their_order(data, count, labels):
    boxes = data.draw(hnp.arrays("f4", (count, 4), elements=FLOATS))
    scores = data.draw(hnp.arrays("f4", count, elements=FLOATS))
    indices = data.draw(hnp.arrays("i8", count, elements=st.integers(-1, 4)))
    output = Detections(boxes, scores, indices, labels)
    lines = published("minimal", output)["objects"]
    objects = published("full", output)["objects"]
    assert len(lines) == len(objects) == count
    for line, found, index in zip(lines, objects, indices.tolist(), strict=True):
        label = labels[index] if 0 <= index < len(labels) else str(index)
        assert line.split("|")[5] == label.replace("|", "/")
        assert label in found
