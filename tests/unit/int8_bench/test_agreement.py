"""The bench's own comparison with FP32."""

import numpy as np
import pytest

from edgert.frames.result import Detections
from tests.int8_bench.agreement import Matches, cosines, iou, match_detections, same_top1

BOX, BESIDE = (10, 10, 50, 50), (200, 10, 240, 50)


def detections(*rows):
    """Rows are (box, class, score)."""
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    scores = np.array([row[2] for row in rows], np.float32)
    return Detections(boxes, scores, np.array([row[1] for row in rows], int), [])


def test_iou_is_the_common_area_over_both():
    half = (10, 10, 50, 30)
    assert iou(np.array([BOX]), np.array([BOX, half, BESIDE])) == pytest.approx(np.array([[1, 0.5, 0]]))


def test_boxes_that_only_touch_or_are_empty_share_nothing():
    touching, empty = (50, 10, 90, 50), (20, 20, 20, 20)
    assert iou(np.array([BOX]), np.array([touching, empty])) == pytest.approx(np.zeros((1, 2)))
    assert iou(np.array([empty]), np.array([empty])) == pytest.approx(np.zeros((1, 1)))


def test_the_same_detections_match_in_any_order():
    reference = detections((BOX, 0, 0.9), (BESIDE, 1, 0.6))
    found = detections((BESIDE, 1, 0.7), (BOX, 0, 0.8))
    figures = match_detections(reference, found).figures()
    assert (figures["recall"], figures["precision"]) == (1, 1)
    assert figures["score_error"] == pytest.approx(0.1, abs=1e-6)


def test_another_class_is_no_match():
    matches = match_detections(detections((BOX, 0, 0.9)), detections((BOX, 1, 0.9)))
    assert matches == Matches(1, 1, 0, 0.0)


def test_a_detection_matches_once():
    reference = detections((BOX, 0, 0.9), ((12, 10, 52, 50), 0, 0.8))
    matches = match_detections(reference, detections((BOX, 0, 0.9)))
    assert (matches.reference, matches.found, matches.matched) == (2, 1, 1)


def test_the_best_score_of_fp32_chooses_first():
    weak, strong = ((14, 10, 54, 50), 0, 0.6), (BOX, 0, 0.9)
    matches = match_detections(detections(weak, strong), detections((BOX, 0, 0.9)))
    assert matches.score_error == pytest.approx(0.0)


def test_nothing_against_nothing_agrees():
    assert match_detections(detections(), detections()).figures()["recall"] == 1
    assert match_detections(detections((BOX, 0, 0.9)), detections()).figures()["recall"] == 0
    assert match_detections(detections(), detections((BOX, 0, 0.9))).figures()["precision"] == 0


def test_matches_add_up():
    assert Matches(1, 2, 1, 0.5).plus(Matches(3, 1, 1, 0.25)) == Matches(4, 3, 2, 0.75)


def test_same_top1_and_cosine():
    reference = np.array([[1.0, 2, 0], [5, 1, 0]], np.float32)
    logits = np.array([[2.0, 4, 0], [0, 1, 0]], np.float32)
    assert same_top1(reference, logits) == 1
    assert cosines(reference, logits) == pytest.approx([1, 1 / np.sqrt(26)])
    assert cosines(reference, np.zeros_like(reference)) == pytest.approx([0, 0])
