import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.unit.decode.decode_reference as reference
from edgert.decode.nms import BLOCK, suppress
from edgert.decode.ranking import best_classes, best_first, boxes_with_hits


def random_boxes(seed: int, count: int, kinds: int, grid: int):
    """Return boxes on a coarse grid, so that equal scores, equal boxes and exact overlaps are common."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, grid, (count, 2))
    boxes = np.concatenate([first, first + rng.integers(0, grid, (count, 2))], axis=1).astype(np.float32)
    scores = (rng.integers(0, 20, count) / 20).astype(np.float32)
    return boxes, scores, rng.integers(0, kinds, count)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
    st.integers(1, 3),
    st.sampled_from([4, 12, 60]),
    st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]),
    st.sampled_from([1, 5, 1000]),
)
def test_equals_the_plain_greedy_loop(seed, count, kinds, grid, iou_max, limit):
    boxes, scores, classes = random_boxes(seed, count, kinds, grid)
    kept = suppress(boxes, scores, classes, iou_max, limit)
    assert kept.tolist() == reference.greedy_nms(boxes, scores, classes, iou_max, limit)


@pytest.mark.parametrize("count", [BLOCK, BLOCK + 1, 2 * BLOCK + 7])
@pytest.mark.parametrize("limit", [10, 1000])
def test_equals_the_plain_greedy_loop_across_blocks(count, limit):
    boxes, scores, classes = random_boxes(count, count, 2, 40)
    assert suppress(boxes, scores, classes, 0.3, limit).tolist() == reference.greedy_nms(
        boxes, scores, classes, 0.3, limit
    )


def test_boxes_of_different_classes_do_not_suppress_each_other():
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    kept = suppress(boxes, np.array([0.5, 0.9, 0.7], np.float32), np.array([0, 0, 1]), 0.5, 10)
    assert kept.tolist() == [1, 2]


def test_a_suppressed_box_suppresses_nothing():
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    kept = suppress(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, int), 0.4, 10)
    assert kept.tolist() == [0, 2]


def test_giant_boxes_are_no_warning():
    boxes = np.array([[-1e30, -1e30, 1e30, 1e30]] * 2, np.float32)
    assert len(suppress(boxes, np.ones(2, np.float32), np.zeros(2, int), 0.5, 10)) >= 1


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 70))
def test_best_first_is_the_head_of_a_stable_sort(values, limit):
    scores = np.array(values, np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:limit]
    assert best_first(scores, limit).tolist() == expected


@given(st.integers(0, 2**32 - 1), st.integers(0, 9), st.integers(0, 5), st.sampled_from([0.0, 0.5, 1.0]))
def test_hits_and_best_classes_equal_the_plain_loop(seed, boxes, classes, score_min):
    rng = np.random.default_rng(seed)
    scores = rng.choice(
        np.array([0, 0.25, 0.5, 0.75, 1, np.nan, np.inf, -np.inf], np.float32), (boxes, classes)
    )
    expected = [(i, *best) for i, row in enumerate(scores) if (best := reference.best_class(row, score_min))]
    rows, indices, best = best_classes(scores, score_min)
    assert list(zip(rows.tolist(), indices.tolist(), best.tolist(), strict=True)) == expected
    hits = [i for i, row in enumerate(scores) if (row >= score_min).any()]
    assert boxes_with_hits(scores, score_min, class_axis=1).tolist() == hits
    assert boxes_with_hits(np.ascontiguousarray(scores.T), score_min, class_axis=0).tolist() == hits
