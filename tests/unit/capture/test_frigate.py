from __future__ import annotations

import json
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.capture.answers import Answer, AnswerHeader, Outbox
from edgert.capture.frigate import (
    FrigateAnswer,
    FrigateDialect,
    Header,
    error_header,
    picture_of,
    rows_of,
)
from edgert.capture.message import PayloadReader
from edgert.capture.options import SourceOptions
from edgert.errors import BusyError, FrameError, ModelError
from edgert.frames.result import Classes, Detections, Result
from edgert.stats import CopyCounts

PICTURE = np.random.default_rng(3).integers(0, 256, (4, 6, 3), np.uint8)


def make_result(boxes, scores=None, classes=None, width=100, height=50):
    count = len(boxes)
    output = Detections(
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(scores if scores is not None else [0.5] * count, np.float32),
        np.array(classes if classes is not None else [0] * count),
        (),
    )
    return Result("cam", 0, "coco", 1, 0, 0, width, height, output)


def make_header(shape, dtype="uint8"):
    return Header(shape=list(shape), dtype=dtype)


@pytest.fixture
def outbox():
    outbox = Outbox()
    yield outbox
    outbox.close()


@pytest.fixture
def dialect():
    options = SourceOptions(uri="frigate+bind:ipc:///x", models=["coco/2"], format="bgr8", max_frame_mb=0.001)
    payloads = PayloadReader(options.max_frame_bytes, CopyCounts())
    yield (dialect := FrigateDialect("cam", options, payloads, Counter()))
    dialect.close()


@pytest.mark.parametrize("is_planar", [False, True])
def test_a_tensor_is_a_picture(is_planar):
    tensor = (PICTURE.transpose(2, 0, 1) if is_planar else PICTURE)[np.newaxis]
    picture = picture_of(make_header(tensor.shape), memoryview(tensor.tobytes()))
    assert np.array_equal(picture, PICTURE)


@pytest.mark.parametrize(
    ("shape", "dtype", "size", "message"),
    [
        ((1, 4, 6, 3), "float32", 288, r"A tensor of 'float32' came; expected uint8 .*input_dtype: int"),
        ((1, 4, 6, 3), "", 72, "A tensor of '' came"),
        ((2, 4, 6, 3), "uint8", 144, r"A tensor of shape \[2, 4, 6, 3\] came; expected \[1, height"),
        ((1, 4, 6, 4), "uint8", 96, "expected"),
        ((4, 6, 3), "uint8", 72, "expected"),
        ((), "uint8", 0, "expected"),
        ((1, 4, 6, 3), "uint8", 71, r"came with 71 bytes"),
        ((1, 65535, 65535, 3), "uint8", 3, r"came with 3 bytes"),
    ],
)
def test_other_tensors_are_refused(shape, dtype, size, message):
    with pytest.raises(FrameError, match=message):
        picture_of(make_header(shape, dtype), memoryview(bytes(size)))


def test_rows_are_parts_of_the_picture_and_zeros_after():
    rows = rows_of(make_result([(10, 5, 60, 25), (-8, 0, 120, 50)], [0.75, 0.5], [7, 2]))
    assert (rows.shape, rows.dtype) == ((20, 6), np.float32)
    np.testing.assert_allclose(rows[:2], [[7, 0.75, 0.1, 0.1, 0.5, 0.6], [2, 0.5, 0, 0, 1, 1]], rtol=1e-6)
    assert not rows[2:].any()


def test_only_the_best_twenty_are_rows():
    rows = rows_of(make_result([(0, 0, 1, 1)] * 25, np.linspace(1, 0.4, 25)))
    np.testing.assert_allclose(rows[:, 1], np.linspace(1, 0.4, 25)[:20], rtol=1e-6)


def test_a_box_that_is_no_number_is_left_out():
    rows = rows_of(make_result([(0, 0, np.nan, 1), (0, 0, 100, 50)], [0.9, 0.8], [1, 4]))
    assert rows[0].tolist() == pytest.approx([4, 0.8, 0, 0, 1, 1])
    assert not rows[1:].any()


def test_nothing_detected_is_zeros():
    assert not rows_of(make_result([])).any()


def test_a_result_without_boxes_is_no_answer():
    result = make_result([])
    result.output = Classes(np.zeros(0), np.zeros(0, int), ())
    answer = FrigateAnswer([b"id", b""], AnswerHeader(1, None, "ok", "", "cam", 0, "coco"), True, result)
    with pytest.raises(ModelError, match="Frigate takes boxes; model coco gives classes") as failure:
        answer.message(lambda _: b"")
    refusal = answer.refusal(failure.value)
    assert isinstance(refusal, FrigateAnswer)
    assert refusal.is_refusal
    assert not answer.is_refusal
    assert b"model_error" in refusal.message(lambda _: b"")[2]


@given(st.text(max_size=400))
def test_an_error_can_never_be_read_as_rows(text):
    """numpy.dtype is what Frigate gives the header's `dtype` to; what that raises it writes into its log."""
    header = error_header(AnswerHeader(1, None, "busy_error", text, "cam", None, None))
    with pytest.raises((TypeError, ValueError), match="edgert: busy_error"):
        np.dtype(json.loads(header)["dtype"])


def test_edgerts_own_answers_do_not_count_refusals_as_lost():
    assert (Answer.refusals_count_as, FrigateAnswer.refusals_count_as) == ("", "error_answer")


@pytest.mark.parametrize(
    ("header", "said", "counts"),
    [
        ({"model_request": True, "model_name": "coco"}, {"model_available": True, "model_loaded": True}, {}),
        (
            {"model_request": True, "model_name": "coco.onnx"},
            {"model_available": True, "model_loaded": True},
            {},
        ),
        (
            {"model_request": True, "model_name": "yolo.onnx"},
            {"model_available": False, "model_loaded": False},
            {"unknown_model": 1},
        ),
        ({"model_request": True}, {"model_available": False, "model_loaded": False}, {"unknown_model": 1}),
        (
            {"model_data": True, "model_name": "coco.onnx"},
            {"model_saved": False, "model_loaded": False},
            {"refused_model": 1},
        ),
    ],
)
def test_a_model_is_known_by_its_name_and_never_taken(dialect, outbox, header, said, counts):
    requester = dialect.requester(outbox, [b"id", b""])
    parts = [memoryview(msgspec.json.encode(header)), memoryview(b"file")]
    assert dialect.unpack(parts, None, requester) is None
    [answer] = outbox.take()
    *envelope, payload = answer.message(lambda _: b"")
    assert (envelope, json.loads(payload)) == ([b"id", b""], said)
    assert not answer.is_refusal
    assert +dialect._counts == counts


def test_a_picture_has_the_colours_that_the_options_say(dialect, outbox, slot):
    requester = dialect.requester(outbox, [b"id", b""])
    header = msgspec.json.encode({"shape": [1, 4, 6, 3], "dtype": "uint8", "model_type": "ssd"})
    captured = dialect.unpack([memoryview(header), memoryview(PICTURE.tobytes())], slot, requester)
    assert (captured.format, captured.height, captured.width) == ("bgr8", 4, 6)
    assert captured.reply is requester
    assert np.array_equal(slot.view(PICTURE.shape), PICTURE)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "has 1 or 2 parts, not 0"),
        ([b"{}", b"", b""], "has 1 or 2 parts, not 3"),
        ([b'{"shape": [1, 4, 6, 3], "dtype": "uint8"}'], "a header and no picture"),
        ([b"{", b""], "header of 1 bytes is refused"),
        ([b'{"shape": [1, -4, 6, 3]}', b""], "is refused"),
        ([b'{"shape": [1, 40, 60, 3], "dtype": "uint8"}', bytes(7200)], "over the source's bound"),
    ],
)
def test_what_is_no_picture_is_refused(dialect, outbox, parts, message):
    requester = dialect.requester(outbox, [b"id", b""])
    with pytest.raises(FrameError, match=message):
        dialect.unpack([memoryview(part) for part in parts], None, requester)
    requester.refuse(BusyError("no slot"))
    [answer] = outbox.take()
    assert answer.is_refusal
    assert answer.message(lambda _: b"")[3] == b""
