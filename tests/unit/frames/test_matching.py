"""Boxes and tensors of two models against each other."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.frames.matching import match_detections, match_tensors, overlaps_of
from edgert.frames.result import Detections

ONE = (0, 0, 10, 10, 0.9, 0)


def detections(*rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int), []
    )


@pytest.mark.parametrize(
    ("other", "iou_min", "pairs"),
    [
        (ONE, 0.9, [(0, 0)]),
        ((0, 0, 10, 10, 0.9, 1), 0.9, []),
        ((0, 0, 10, 9, 0.9, 0), 0.9, [(0, 0)]),
        ((0, 0, 10, 8.9, 0.9, 0), 0.9, []),
        ((0, 0, 10, 5, 0.9, 0), 0.5, [(0, 0)]),
        ((0, 0, 10, 4.9, 0.9, 0), 0.5, []),
        ((20, 20, 30, 30, 0.9, 0), 0.5, []),
    ],
)
def test_boxes_match_if_class_and_place_are_the_same(other, iou_min, pairs):
    assert match_detections(detections(ONE), detections(other), iou_min) == pairs


def test_each_box_matches_once():
    twice = detections(ONE, (0, 0, 10, 9.5, 0.8, 0))
    assert match_detections(twice, detections(ONE), 0.9) == [(0, 0)]
    assert match_detections(detections(ONE), twice, 0.9) == [(0, 0)]
    assert match_detections(twice, detections((0, 0, 10, 9.5, 0.8, 0), ONE), 0.9) == [(0, 1), (1, 0)]
    assert match_detections(detections(), twice, 0.9) == match_detections(twice, detections(), 0.9) == []


def test_a_taken_box_and_one_of_another_class_match_at_no_overlap_either():
    other_class = (0, 0, 10, 10, 0.9, 1)
    assert match_detections(detections(ONE, ONE), detections(ONE), 0.0) == [(0, 0)]
    assert match_detections(detections(ONE), detections(other_class), 0.0) == []


def test_a_box_that_is_not_finite_matches_nothing_and_hides_nothing():
    broken = (np.nan, 0, np.inf, 10, 0.95, 0)
    assert match_detections(detections(ONE), detections(broken, ONE), 0.5) == [(0, 1)]
    assert match_detections(detections(broken), detections(broken), 0.5) == []


def test_overlaps():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [3, 3, 3, 3]], np.float32)
    expected = [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]
    assert overlaps_of(boxes, boxes) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("old", "new", "cosine", "error"),
    [
        ([0, 0], [0, 0], 1.0, 0.0),
        ([0, 0], [0, 1], 0.0, 1.0),
        ([2, 0], [0, 2], 0.0, 1.0),
        ([1, np.nan], [1, np.nan], 1.0, 0.0),
        ([1, 2], [1, np.inf], 0.0, np.inf),
        ([4, 0], [2, 0], 1.0, 0.5),
        ([2, 0], [-1, 0], -1.0, 1.5),
    ],
)
def test_cosine_and_error_of_one_tensor(old, new, cosine, error):
    match = match_tensors(np.array(old, np.float32), np.array(new, np.float32))
    assert (match.cosine, match.relative_error) == (cosine, error)


@pytest.mark.parametrize(("kind", "value"), [(np.float16, 60_000), (np.float64, 1e-150), (np.float64, 1e150)])
def test_neither_large_nor_small_values_lose_the_direction(kind, value):
    old = np.full(1000, value, kind)
    new = old.copy()
    new[0] = 0
    assert match_tensors(old, new).cosine == pytest.approx((999 / 1000) ** 0.5, abs=1e-9)
