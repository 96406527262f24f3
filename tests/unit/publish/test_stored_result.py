from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgert.errors import SinkError
from edgert.frames.result import Classes, Detections, Result, Tensors
from edgert.publish.payload import ResultEncoder
from edgert.publish.stored_result import restore_result, store_result

SECOND = 1_000_000_000
LABELS = ["person", "bicycle", "car"]


def result_of(output, boot=""):
    return Result("door", 7, "coco", 2, 5_000 * SECOND, 100 * SECOND, 640, 480, output, boot)


def restored(result, utc_ns=5_000 * SECOND, mono_ns=100 * SECOND):
    return restore_result(store_result(result, "boot-1"), utc_ns, mono_ns)


def published(result):
    """Return what subscribers get, with the clock stopped."""
    return json.loads(ResultEncoder("n", "boot-1", lambda: 0, lambda: result.captured_mono_ns).encode(result))


def detections(count, landmarks=0):
    random = np.random.default_rng(count)
    points = random.random((count, landmarks, 2)).astype("f4") if landmarks else None
    boxes = (random.random((count, 4)) * 600).astype("f4")
    return Detections(boxes, random.random(count).astype("f4"), random.integers(0, 5, count), LABELS, points)


@pytest.mark.parametrize(
    "output",
    [
        detections(0),
        detections(3),
        detections(3, landmarks=5),
        Classes(np.array([0.5, 0.25], "f4"), np.array([2, 9]), LABELS),
        Tensors({"a": np.arange(6, dtype="i8").reshape(2, 3), "b": np.zeros((0, 2), "f2")}),
        Tensors({"text": np.array(["ja", "nein"], object)}),
    ],
    ids=["none", "boxes", "landmarks", "classes", "tensors", "text"],
)
def test_what_is_published_is_the_same(output):
    result = result_of(output)
    assert published(restored(result)) == published(result)


@given(st.integers(0, 20), st.integers(0, 3))
def test_boxes_are_the_same_to_the_bit(count, landmarks):
    before = detections(count, landmarks)
    after = restored(result_of(before)).output
    assert np.array_equal(after.boxes_xyxy_px, before.boxes_xyxy_px)
    assert np.array_equal(after.scores, before.scores)
    assert np.array_equal(after.class_indices, before.class_indices)


def test_it_keeps_the_start_that_made_it():
    assert restored(result_of(detections(1))).boot == "boot-1"
    assert restored(result_of(detections(1), boot="boot-0")).boot == "boot-0"


def test_its_age_is_that_of_the_wall_clock():
    """The machine has been started again: its monotonic clock has little to say."""
    after = restored(result_of(detections(1)), utc_ns=5_060 * SECOND, mono_ns=3 * SECOND)
    assert after.captured_mono_ns == (3 - 60) * SECOND
    assert after.captured_utc_ns == 5_000 * SECOND


def test_only_the_labels_that_it_uses_are_stored():
    many = [f"label {index}" for index in range(1000)]
    output = Classes(np.array([0.5], "f4"), np.array([3]), many)
    assert len(store_result(result_of(output), "b")) < 200


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_bytes_that_are_no_result_are_refused(cut):
    data = store_result(result_of(detections(2)), "b")
    with pytest.raises(SinkError, match="not a result"):
        restore_result(data[:cut], 0, 0)


@given(st.binary(max_size=200))
def test_noise_is_refused_and_nothing_else(noise):
    with pytest.raises(SinkError):
        restore_result(noise, 0, 0)
