"""The verdict on a new engine."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.build.compare import LIMITS, Comparer, Example, Limits, Side, limits_for
from edgert.build.matching import DetectionMatch
from edgert.decode.classify import ClassifyDecoder, ClassifyOptions
from edgert.decode.ssd import SsdDecoder, SsdOptions
from edgert.decode.tensors import TensorsDecoder, TensorsOptions
from edgert.frames.placement import Placement
from edgert.frames.result import Detections

PLACEMENT = Placement.stretch(100, 100, 100, 100)
EXACT = Limits(1.0, 1.0, 0.0)


class Answers:
    """A Subject that answers each picture, which is its number, with the outputs at that place."""

    def __init__(self, *outputs):
        self.outputs = outputs
        self.batches = []

    def run(self, inputs):
        numbers = inputs["x"].ravel().astype(int).tolist()
        self.batches.append(numbers)
        rows = [self.outputs[number] for number in numbers]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def pictures(count):
    return [Example(f"{n}.jpg", np.array([n], np.float32), PLACEMENT) for n in range(count)]


def compared(old, new, decoder, limits=EXACT, *, batch=2, is_fixed=False, score_min=0.0):
    comparer = Comparer("x", has_batch_axis=True, batch=batch, is_fixed=is_fixed)
    sides = Side(old, decoder), Side(new, decoder)
    return comparer.compare(*sides, pictures(len(old.outputs)), score_min, limits)


def tensors(*values):
    return Answers(*({"y": np.array(value, np.float32)} for value in values))


TENSORS = TensorsDecoder(TensorsOptions(), [], {"y": (2,)})


def test_the_same_is_near():
    found = compared(tensors([1, 2], [3, 4]), tensors([1, 2], [3, 4]), TENSORS)
    assert found.is_near
    assert found.pictures == 2
    assert [(match.name, match.cosine, match.relative_error) for match in found.outputs] == [("y", 1.0, 0.0)]
    assert found.agreement is None


def test_the_worst_picture_counts():
    found = compared(tensors([1, 0], [1, 0]), tensors([1, 0], [1, 1]), TENSORS, LIMITS["int8"])
    [match] = found.outputs
    assert match.cosine == pytest.approx(0.5**0.5)
    assert match.relative_error == 1.0
    assert found.problems == ("output 'y' has a cosine of 0.70711, expected 0.97 or more",)


def test_a_batch_is_no_longer_than_asked():
    old, new = tensors(*[[1, 1]] * 5), tensors(*[[1, 1]] * 5)
    assert compared(old, new, TENSORS, batch=2).pictures == 5
    assert old.batches == new.batches == [[0, 1], [2, 3], [4]]


def test_an_engine_of_one_batch_size_gets_whole_batches():
    old, new = tensors(*[[1, 1]] * 3), tensors(*[[1, 1]] * 3)
    assert compared(old, new, TENSORS, batch=2, is_fixed=True).pictures == 3
    assert new.batches == [[0, 1], [2, 2]]


def logits(*values):
    return Answers(*({"y": np.array(value, np.float32)} for value in values))


def test_best_classes_have_to_agree():
    decoder = ClassifyDecoder(ClassifyOptions(), [], {"y": (3,)})
    old, new = logits([1, 2, 3], [9, 1, 1]), logits([1, 2, 2.9], [1, 9, 1])
    found = compared(old, new, decoder, Limits(0.0, 0.95, 1.0))
    assert (found.agreement.kind, found.agreement.share, found.agreement.compared) == ("best class", 0.5, 2)
    assert found.problems == ("best class: 50.0% of 2 agree, expected 95.0% or more",)


def boxes(*rows):
    """Return SSD outputs: x1 y1 x2 y2 as hundredths, then a score, for one class."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    return {"boxes": table[:, :4] / 100, "scores": table[:, 4:]}


SSD = SsdDecoder(SsdOptions(order="xyxy", score_min=0.5), [], {"boxes": (-1, 4), "scores": (-1, 1)})


def test_detections_agree_in_any_order_and_number_of_rows():
    old = Answers(boxes([0, 0, 10, 10, 0.9], [50, 50, 90, 90, 0.8], [1, 1, 2, 2, 0.1]))
    new = Answers(boxes([50, 50, 90, 90, 0.81], [0, 0, 10, 10, 0.9]))
    found = compared(old, new, SSD, Limits(1.0, 1.0, 0.05), score_min=0.5)
    assert found.is_near
    assert found.outputs == ()  # 3 rows against 2
    assert (found.agreement.share, found.agreement.compared) == (1.0, 2)
    assert found.agreement.score_difference == pytest.approx(0.01, abs=1e-6)


def test_a_detection_that_is_missing_counts():
    old = Answers(boxes([0, 0, 10, 10, 0.9], [50, 50, 90, 90, 0.8]))
    new = Answers(boxes([50, 50, 90, 90, 0.6]))
    found = compared(old, new, SSD, Limits(0.0, 0.9, 0.05), score_min=0.5)
    assert found.problems == (
        "detections: 50.0% of 2 agree, expected 90.0% or more",
        "scores of the same detections differ by 0.200, expected at most 0.05",
    )


def test_where_nothing_is_found_nothing_is_proved():
    old, new = Answers(boxes([0, 0, 10, 10, 0.1], [1, 1, 2, 2, 0.1])), Answers(boxes([0, 0, 9, 9, 0.2]))
    found = compared(old, new, SSD, score_min=0.5)
    assert found.problems == (
        "nothing could be compared: the model finds nothing in these pictures; give others",
    )


def test_without_a_wish_the_precision_decides():
    assert limits_for("fp16", None) == LIMITS["fp16"]
    assert limits_for("fp16", 0.1) == Limits(0.9, 0.9, 0.1)
    strictest_first = [LIMITS[precision].cosine_min for precision in ("fp32", "fp16", "int8")]
    assert strictest_first == sorted(strictest_first, reverse=True)


def detections(*rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(int), []
    )


def test_a_box_at_the_threshold_may_be_alone():
    found = DetectionMatch(sure_score=0.55)
    found.add(detections((0, 0, 5, 5, 0.54, 0), (20, 20, 30, 30, 0.6, 0)), detections())
    assert (found.compared, found.share) == (1, 0.0)
