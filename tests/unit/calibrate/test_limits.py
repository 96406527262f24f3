"""What a model may lose."""

from __future__ import annotations

import msgspec
import pytest

from edgert.calibrate.compare.average_precision import PrecisionFigures
from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.limits import AccuracyLimits, problems_of
from edgert.calibrate.compare.metrics import ClassFigures, DetectionFigures, TensorFigures


def precision(value):
    return PrecisionFigures(frames=5, map_50=value, map=value, classes=())


FIGURES = ComparisonFigures(
    frames=100,
    classes=ClassFigures(
        frames=100,
        top1_agreement=0.97,
        top5_overlap=0.9,
        labelled=100,
        reference_top1=0.87,
        reference_top5=0.99,
        candidate_top1=0.86,
        candidate_top5=0.98,
    ),
    detections=DetectionFigures(
        frames=100,
        reference_count=412,
        candidate_count=406,
        matched=400,
        recall=0.971,
        precision=0.985,
        score_error=0.0214,
        iou=0.9,
    ),
    reference_map=precision(0.4),
    candidate_map=precision(0.38),
    tensors=(
        TensorFigures(
            name="y",
            frames=100,
            not_finite=0,
            cosine_mean=0.99,
            cosine_min=0.95,
            relative_error_mean=0.1,
            relative_error_max=0.2,
        ),
    ),
)


@pytest.mark.parametrize(
    ("name", "kept", "broken", "problem"),
    [
        ("top1_agreement_min", 0.97, 0.98, "top-1 agreement 0.970, expected 0.980 or more"),
        ("recall_min", 0.971, 0.99, "recall 0.971, expected 0.990 or more"),
        ("precision_min", 0.985, 1.0, "precision 0.985, expected 1.000 or more"),
        ("score_error_max", 0.0214, 0.016, "score error 0.021, expected at most 0.016"),
        ("cosine_min", 0.95, 0.99, "cosine 0.950, expected 0.990 or more"),
        ("accuracy_drop_max", 0.01, 0.005, "drop of the accuracy 0.010, expected at most 0.005"),
        ("map_drop_max", 0.02, 0.01, "drop of the mAP 0.020, expected at most 0.010"),
    ],
)
def test_each_limit_holds_to_the_figure_itself(name, kept, broken, problem):
    assert problems_of(AccuracyLimits(**{name: kept}), FIGURES) == ()
    assert problems_of(AccuracyLimits(**{name: broken}), FIGURES) == (problem,)
    unmeasured = problems_of(AccuracyLimits(**{name: kept}), ComparisonFigures(frames=0))
    assert len(unmeasured) == 1
    assert "could not be measured, expected" in unmeasured[0]


def test_a_near_miss_is_told_with_enough_digits():
    figures = msgspec.structs.replace(
        FIGURES, detections=msgspec.structs.replace(FIGURES.detections, recall=0.98996)
    )
    assert problems_of(AccuracyLimits(recall_min=0.99), figures) == (
        "recall 0.98996, expected 0.99000 or more",
    )


def test_a_gain_is_no_drop():
    figures = msgspec.structs.replace(FIGURES, candidate_map=precision(0.5))
    assert problems_of(AccuracyLimits(map_drop_max=0.0), figures) == ()


def test_without_limits_all_is_well():
    assert problems_of(AccuracyLimits(), FIGURES) == ()
    assert (AccuracyLimits().are_set, AccuracyLimits(cosine_min=0.0).are_set) == (False, True)


def test_several_limits_may_be_broken_at_once():
    limits = AccuracyLimits(recall_min=1.0, score_error_max=0.0)
    assert [problem.split()[0] for problem in problems_of(limits, FIGURES)] == ["recall", "score"]


@pytest.mark.parametrize("tree", [{"recall": 0.9}, {"recall_min": 1.5}, {"map_drop_max": -0.1}])
def test_a_recipe_is_checked(tree):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(tree, AccuracyLimits)
