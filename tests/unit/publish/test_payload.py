"""The JSON of a result, against the schema that ships."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jsonschema import Draft202012Validator

from edgert.frames.result import Classes, Detections, Result, Tensors
from edgert.publish.payload import ResultEncoder, result_schema

SCHEMA = result_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
LABELS = ["person", "bicycle", 'Überraschung "☃"']


def result(output, **fields):
    values = {
        "source": "porch",
        "seq": 7,
        "model": "detector",
        "version": 3,
        "captured_utc_ns": 5_000_000_000,
        "captured_mono_ns": 1_000_000_000,
        "width": 640,
        "height": 480,
    }
    return Result(output=output, **{**values, **fields})


def detections(n=2, **fields):
    arrays = {
        "boxes_xyxy_px": np.arange(4 * n, dtype="f4").reshape(n, 4) + np.float32(0.26),
        "scores": np.linspace(1, 0.123456, n, dtype="f4"),
        "class_indices": np.arange(n),
        "labels": LABELS,
    }
    return Detections(**{**arrays, **fields})


def published(output, historical=False, **fields):
    """Encode, check that it is strict JSON and follows the schema, and return it decoded."""
    encoder = ResultEncoder("n1", "b00t", utc_ns=lambda: 6_000_000_000, mono_ns=lambda: 1_012_345_678)
    text = encoder.encode(result(output, **fields), historical)
    decoded = json.loads(text, parse_constant=pytest.fail)
    VALIDATOR.validate(decoded)
    assert decoded.keys() <= SCHEMA["properties"].keys()
    return decoded


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["schema"]["const"] == "edgert.result/1"


def test_a_detection_result_as_published():
    assert published(detections(1)) == {
        "schema": "edgert.result/1",
        "node": "n1",
        "boot": "b00t",
        "source": "porch",
        "seq": 7,
        "model": "detector",
        "version": 3,
        "captured_utc_ns": 5_000_000_000,
        "published_utc_ns": 6_000_000_000,
        "latency_ms": 12.346,
        "historical": False,
        "size": [640, 480],
        "detections": [
            {"label": "person", "class_index": 0, "score": 1.0, "box_xyxy_px": [0.3, 1.3, 2.3, 3.3]}
        ],
    }


def test_no_detections_is_an_empty_list():
    assert published(detections(0))["detections"] == []


def test_numbers_are_short():
    text = (
        ResultEncoder("n", "b").encode(result(detections(1, scores=np.array([0.123456789], "f4")))).decode()
    )
    assert '"score":0.1235,"box_xyxy_px":[0.3,1.3,2.3,3.3]' in text


def test_landmarks_belong_to_their_box():
    points = np.array([[[1.04, 2], [3, 4]], [[5, 6], [7, 8.96]]], "f4")
    first, second = published(detections(2, landmarks_xy_px=points))["detections"]
    assert first["landmarks_xy_px"] == [[1.0, 2.0], [3.0, 4.0]]
    assert second["landmarks_xy_px"] == [[5.0, 6.0], [7.0, 9.0]]


@pytest.mark.parametrize(
    ("labels", "index", "label"), [(LABELS, 2, LABELS[2]), (LABELS, 3, "3"), ([], 0, "0")]
)
def test_an_index_without_a_label_is_its_own_label(labels, index, label):
    output = detections(1, labels=labels, class_indices=np.array([index]))
    assert published(output)["detections"][0]["label"] == label


def test_classes_as_published():
    output = Classes(np.array([0.9, 0.06], "f4"), np.array([1, 0]), LABELS)
    assert published(output)["classes"] == [
        {"label": "bicycle", "class_index": 1, "score": 0.9},
        {"label": "person", "class_index": 0, "score": 0.06},
    ]


@pytest.mark.parametrize(
    ("array", "data"),
    [
        (np.array([[1, 2], [3, 4]], "int64"), [1, 2, 3, 4]),
        (np.array([[1, 2], [3, 4]], "float16").T, [1, 3, 2, 4]),
        (np.array([True, False]), [True, False]),
        (np.array([b"caf\xc3\xa9", "text"], object), ["café", "text"]),
        (np.array(1.5, "float32"), [1.5]),
        (np.zeros((0, 4), "float32"), []),
    ],
    ids=lambda value: getattr(getattr(value, "dtype", None), "name", ""),
)
def test_tensors_are_flat_in_c_order(array, data):
    tensor = published(Tensors({"out": array}))["tensors"][0]
    assert tensor == {"name": "out", "dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def test_tensors_keep_every_digit():
    values = np.array([0.1, 1e-30, 3.4e38], "float32")
    tensor = published(Tensors({"out": values}))["tensors"][0]
    assert np.array_equal(np.array(tensor["data"], "float32"), values)


def test_a_number_that_is_not_finite_is_null():
    output = detections(
        1,
        boxes_xyxy_px=np.array([[math.nan, math.inf, -math.inf, 1]], "f4"),
        scores=np.array([math.nan], "f4"),
    )
    box = published(output)["detections"][0]
    assert box["box_xyxy_px"] == [None, None, None, 1.0]
    assert box["score"] is None
    assert published(Tensors({"o": np.array([math.nan])}))["tensors"][0]["data"] == [None]


def test_what_waited_for_its_receiver_says_so():
    assert published(detections(), historical=True)["historical"] is True


def test_one_encoder_encodes_many():
    encoder = ResultEncoder("n", "b")
    texts = [encoder.encode(result(detections(n), seq=n)) for n in (50, 0, 3)]
    assert [json.loads(text)["seq"] for text in texts] == [50, 0, 3]


FLOATS = st.floats(width=32)


@given(data=st.data(), count=st.integers(0, 6))
def test_any_boxes_make_valid_json_within_half_a_step(data, count):
    boxes = data.draw(hnp.arrays("f4", (count, 4), elements=FLOATS))
    scores = data.draw(hnp.arrays("f4", count, elements=FLOATS))
    indices = data.draw(hnp.arrays("i8", count, elements=st.integers(-1, 100)))
    rows = published(detections(0, boxes_xyxy_px=boxes, scores=scores, class_indices=indices))["detections"]
    assert len(rows) == count
    for row, box, score in zip(rows, boxes.tolist(), scores.tolist(), strict=True):
        for written, exact in [*zip(row["box_xyxy_px"], box, strict=True), (row["score"], score)]:
            assert (written is None) == (not math.isfinite(exact))
            assert written is None or abs(written - exact) <= max(0.05, abs(exact) * 1e-12) + 1e-9


@given(
    array=hnp.arrays(
        hnp.scalar_dtypes().filter(lambda d: d.kind in "biuf" and d.itemsize <= 8),
        hnp.array_shapes(min_side=0),
    )
)
def test_any_tensor_makes_valid_json(array):
    tensor = published(Tensors({"out": array}))["tensors"][0]
    assert len(tensor["data"]) == array.size


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "edgert.result/2"},
        {"seq": -1},
        {"size": [640]},
        {"source": "a/b"},
        {"detections": [{"label": "x", "class_index": 0, "score": 1.0, "box_xyxy_px": [1, 2, 3]}]},
        {"classes": []},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses(change):
    assert VALIDATOR.is_valid(published(detections()))
    assert not VALIDATOR.is_valid({**published(detections()), **change})
