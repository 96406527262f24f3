import pytest

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.metrics import ClassFigures, DetectionFigures, TensorFigures
from edgert.calibrate.compare.ranking import distance, nearest, standard_error


def output(cosine, name="scores"):
    return TensorFigures(
        name=name,
        frames=10,
        not_finite=0,
        cosine_mean=cosine,
        cosine_min=cosine,
        relative_error_mean=0.0,
        relative_error_max=0.0,
    )


def classifier(agreement, cosine, frames=100):
    classes = ClassFigures(frames=frames, top1_agreement=agreement, top5_overlap=1.0)
    return ComparisonFigures(frames=frames, classes=classes, tensors=(output(cosine),))


def detector(matched, of, cosine):
    found = DetectionFigures(
        frames=10,
        reference_count=of,
        candidate_count=of,
        matched=matched,
        recall=matched / of,
        precision=matched / of,
        score_error=0.01,
        iou=0.9,
    )
    return ComparisonFigures(frames=10, detections=found, tensors=(output(cosine),))


def test_a_clear_difference_in_agreement_decides():
    assert nearest({"a": classifier(0.80, 0.99), "b": classifier(0.95, 0.90)}) == "b"


def test_what_may_be_luck_is_decided_by_the_outputs():
    figures = {"a": classifier(0.99, 0.980), "b": classifier(0.981, 0.999), "c": classifier(0.97, 0.99999)}
    assert nearest(figures) == "b"


def test_one_frame_of_a_perfect_agreement_may_be_luck():
    assert nearest({"a": classifier(1.0, 0.98), "b": classifier(0.99, 0.99)}) == "b"


def test_detections_count_as_such_and_not_as_frames():
    figures = {"a": detector(1000, 1000, 0.98), "b": detector(990, 1000, 0.999)}
    assert nearest(figures) == "a"


def test_the_first_of_equals_wins():
    assert nearest({"z": classifier(1.0, 0.99), "a": classifier(1.0, 0.99)}) == "z"


def test_none_to_choose_from_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        nearest({})


def test_the_standard_error_shrinks_with_the_frames():
    few, many = standard_error(classifier(0.9, 1.0, 10)), standard_error(classifier(0.9, 1.0, 1000))
    assert many == pytest.approx(0.0095, abs=1e-4)
    assert few == pytest.approx(0.1)  # one frame in ten


def test_the_distance_is_the_mean_over_outputs_and_none_without():
    two = ComparisonFigures(frames=1, tensors=(output(0.9, "a"), output(1.0, "b")))
    assert distance(two) == pytest.approx(0.05)
    assert distance(ComparisonFigures(frames=1)) == 0.0
