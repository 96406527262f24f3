"""How near two models come to each other."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgert.calibrate.compare.comparison import Answer, HeldOutComparison
from edgert.calibrate.compare.labels import TrueBoxes
from edgert.calibrate.compare.metrics import ClassAgreement, DetectionAgreement, TensorAgreement
from edgert.frames.result import Classes, Detections, Tensors


def classes(*indices, scores=None):
    scores = scores or [0.5**place for place in range(1, len(indices) + 1)]
    return Classes(np.array(scores, np.float32), np.array(indices, np.int64), [])


def detections(*rows):
    """Return detections of rows x1 y1 x2 y2 score class."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int), []
    )


def tensors(*values):
    return {"y": np.array(values, np.float32)}


def test_the_same_classes_agree():
    agreement = ClassAgreement()
    assert agreement.add(classes(3, 1, 4, 5, 9), classes(3, 1, 4, 5, 9)) == 0.0
    found = agreement.figures()
    assert (found.frames, found.top1_agreement, found.top5_overlap) == (1, 1.0, 1.0)
    assert (found.labelled, found.reference_top1, found.candidate_top5) == (0, None, None)


def test_classes_that_differ():
    agreement = ClassAgreement()
    swapped = agreement.add(classes(0, 1, scores=[0.6, 0.4]), classes(1, 0, scores=[0.7, 0.3]))
    assert swapped == pytest.approx(1.3)  # another best class, 0.3 of the score moved
    agreement.add(classes(0, 1, 2, 3, 4), classes(0, 1, 2, 3, 7))
    found = agreement.figures()
    assert found.top1_agreement == 0.5
    assert found.top5_overlap == pytest.approx((1.0 + 0.8) / 2)


def test_only_the_five_best_count():
    agreement = ClassAgreement()
    agreement.add(classes(0, 1, 2, 3, 4, 5), classes(0, 1, 2, 3, 4, 6), truth=5)
    found = agreement.figures()
    assert (found.top5_overlap, found.reference_top5) == (1.0, 0.0)


def test_accuracy_is_of_labelled_frames_only():
    agreement = ClassAgreement()
    agreement.add(classes(0, 1), classes(0, 1), truth=0)
    agreement.add(classes(0, 1), classes(1, 0), truth=0)
    agreement.add(classes(0, 1), classes(1, 0))
    found = agreement.figures()
    assert (found.frames, found.labelled) == (3, 2)
    assert (found.reference_top1, found.candidate_top1) == (1.0, 0.5)
    assert (found.reference_top5, found.candidate_top5) == (1.0, 1.0)


def test_two_models_that_find_no_class_agree():
    agreement = ClassAgreement()
    assert agreement.add(classes(), classes()) == 0.0
    assert agreement.add(classes(), classes(1, scores=[0.5])) == 1.25
    found = agreement.figures()
    assert (found.top1_agreement, found.top5_overlap) == (0.5, 0.5)


def test_the_same_detections_agree():
    agreement = DetectionAgreement()
    both = detections((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.7, 1))
    assert agreement.add(both, both) == 0.0
    found = agreement.figures()
    assert (found.recall, found.precision, found.score_error, found.iou) == (1.0, 1.0, 0.0, 1.0)


def test_detections_that_differ():
    agreement = DetectionAgreement()
    reference = detections((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 1), (0, 0, 5, 5, 0.4, 0))
    candidate = detections((0, 0, 10, 8, 0.7, 0))
    difference = agreement.add(reference, candidate)
    assert difference == pytest.approx(0.8 + 0.2 + 0.2, abs=1e-6)  # one lost, a score, an overlap
    found = agreement.figures()
    assert (found.reference_count, found.candidate_count, found.matched) == (2, 1, 1)
    assert (found.recall, found.precision) == (0.5, 1.0)
    assert found.score_error == pytest.approx(0.2, abs=1e-6)
    assert found.iou == pytest.approx(0.8, abs=1e-6)


def test_what_is_new_costs_precision():
    agreement = DetectionAgreement()
    one, two = (0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.75, 0)
    assert agreement.add(detections(one), detections(one, two)) == 0.75
    assert (agreement.figures().recall, agreement.figures().precision) == (1.0, 0.5)


def test_the_score_minimum_counts_on_both_sides():
    agreement = DetectionAgreement(score_min=0.5)
    agreement.add(detections((0, 0, 10, 10, 0.5, 0)), detections((0, 0, 10, 10, 0.49, 0)))
    found = agreement.figures()
    assert (found.reference_count, found.candidate_count, found.recall) == (1, 0, 0.0)


def test_what_only_crossed_the_score_minimum_is_counted():
    agreement = DetectionAgreement(score_min=0.5)
    here, there, nowhere = (0, 0, 10, 10), (50, 50, 60, 60), (80, 80, 90, 90)
    agreement.add(
        detections((*here, 0.55, 0), (*nowhere, 0.7, 0), (*there, 0.45, 1)),
        detections((*here, 0.48, 0), (*nowhere, 0.2, 1), (*there, 0.52, 1)),
    )
    found = agreement.figures()
    assert (found.reference_count, found.candidate_count, found.matched) == (2, 1, 0)
    assert (found.lost_below, found.new_below, found.score_min) == (1, 1, 0.5)


def test_a_low_box_makes_good_for_one_detection_alone():
    agreement = DetectionAgreement(score_min=0.5)
    twice = (0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0)
    agreement.add(detections(*twice), detections((0, 0, 10, 10, 0.4, 0)))
    assert agreement.figures().lost_below == 1


def test_without_low_scores_nothing_is_known_of_crossings():
    agreement = DetectionAgreement(score_min=0.5)
    agreement.add(detections((0, 0, 10, 10, 0.55, 0)), detections())
    assert (agreement.figures().lost_below, agreement.figures().new_below) == (None, None)


def test_the_best_is_matched_first_whatever_the_order():
    agreement = DetectionAgreement()
    near, exact = (0, 0, 10, 9, 0.6, 0), (0, 0, 10, 10, 0.9, 0)
    agreement.add(detections(near, exact), detections(exact))
    assert agreement.figures().score_error == 0.0


def test_nothing_found_is_no_figure():
    agreement = DetectionAgreement()
    assert agreement.add(detections(), detections()) == 0.0
    found = agreement.figures()
    assert (found.frames, found.recall, found.precision, found.score_error) == (1, None, None, None)


def test_outputs_have_means_and_extremes():
    agreement = TensorAgreement()
    assert agreement.add(tensors(1, 0), tensors(1, 0)) == 0.0
    assert agreement.add(tensors(2, 0), tensors(1, 0)) == 0.0
    assert agreement.add(tensors(1, 0), tensors(0, 1)) == 1.0
    [found] = agreement.figures()
    assert (found.name, found.frames, found.not_finite) == ("y", 3, 0)
    assert (found.cosine_mean, found.cosine_min) == (pytest.approx(2 / 3), 0.0)
    assert (found.relative_error_mean, found.relative_error_max) == (0.5, 1.0)


def test_what_is_not_finite_is_counted_and_can_be_written():
    agreement = TensorAgreement()
    assert agreement.add(tensors(1, np.nan), tensors(1, 0)) == 1.0
    [found] = agreement.figures()
    assert (found.not_finite, found.cosine_min, found.relative_error_max) == (1, 0.0, None)
    assert msgspec.json.decode(msgspec.json.encode(found), type=type(found)) == found


def test_an_output_of_another_shape_is_a_change_without_figures():
    agreement = TensorAgreement()
    assert agreement.add(tensors(1, 2), tensors(1, 2, 3)) == 1.0
    assert agreement.add(tensors(1, 2), {}) == 1.0
    assert agreement.figures() == ()


def answer(decoded, *values):
    return Answer(tensors(*(values or (1, 0))), decoded)


def test_a_comparison_of_classes():
    comparison = HeldOutComparison()
    assert comparison.add(answer(classes(0, 1)), answer(classes(0, 1)), 0) == 0.0
    assert comparison.add(answer(classes(0, 1)), answer(classes(1, 0), 1, 1), 0) > 1.0
    found = comparison.figures()
    assert (found.frames, found.top1_agreement, found.agreement) == (2, 0.5, 0.5)
    assert found.cosine_min == pytest.approx(0.5**0.5)
    assert found.accuracy_drop == 0.5
    assert (found.recall, found.detections, found.map_drop) == (None, None, None)


def test_a_comparison_of_detections():
    comparison = HeldOutComparison()
    one, two = (0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.75, 0)
    truth = TrueBoxes(np.array([[0, 0, 10, 10], [50, 50, 60, 60]]), np.array([0, 0]), np.zeros(2, bool))
    both, less = detections(one, two), detections(one)
    assert comparison.add(answer(both), answer(less), truth) == 0.75
    assert comparison.add(answer(both), answer(both)) == 0.0
    found = comparison.figures()
    assert (found.reference_map.frames, found.reference_map.map) == (1, 1.0)
    assert found.map_drop == pytest.approx(1 - 51 / 101)
    assert (found.recall, found.precision) == (0.75, 1.0)
    assert found.agreement == pytest.approx(2 * 3 / 7)
    assert found.top1_agreement is None


def test_a_comparison_of_tensors():
    comparison = HeldOutComparison()
    old, new = tensors(1, 0), tensors(1, 1)
    difference = comparison.add(Answer(old, Tensors(old)), Answer(new, Tensors(new)))
    assert difference == pytest.approx(1 - 0.5**0.5)
    assert comparison.figures().agreement == pytest.approx(0.5**0.5)


def test_without_frames_nothing_was_measured():
    found = HeldOutComparison().figures()
    assert (found.frames, found.top1_agreement, found.recall, found.cosine_min) == (0, None, None, None)
