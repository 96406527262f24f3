"""Mean average precision, by hand and against a plain transcription of COCO's evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from edgert.calibrate.compare.average_precision import IOUS, RECALLS, MeanAveragePrecision, average_precision
from edgert.calibrate.compare.labels import TrueBoxes
from edgert.frames.result import Detections

PLACE = (0, 0, 10, 10)
ELSEWHERE = (50, 50, 60, 60)


def found(*rows, labels=()):
    """Return detections of rows ((x1, y1, x2, y2), score, class)."""
    boxes = np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score, _ in rows], np.float32)
    return Detections(boxes, scores, np.array([each for *_, each in rows], np.int64), labels)


def true(*rows):
    """Return objects of rows ((x1, y1, x2, y2), class) or (…, class, is_crowd)."""
    boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
    classes = np.array([row[1] for row in rows], np.int64)
    return TrueBoxes(boxes, classes, np.array([len(row) > 2 and row[2] for row in rows], bool))


def figures(*frames):
    precision = MeanAveragePrecision()
    for detections, truth in frames:
        precision.add(detections, truth)
    return precision.figures()


@pytest.mark.parametrize(
    ("hits", "objects", "expected"),
    [
        ([True], 1, 1.0),
        ([False], 1, 0.0),
        ([], 1, 0.0),
        ([True], 2, 51 / 101),  # recall 0.5 is reached, 0.51 is not
        ([False, True], 1, 0.5),
        ([True, False], 1, 1.0),  # what comes after all are found costs nothing
        ([True, False, True], 2, (51 + 50 * 2 / 3) / 101),
        ([False, True, True], 2, 2 / 3),  # precision never rises with recall
    ],
)
def test_average_precision_by_hand(hits, objects, expected):
    assert average_precision(np.array(hits, bool), objects) == pytest.approx(expected)


def test_all_found():
    result = figures((found((PLACE, 0.9, 1), labels=("cat", "dog")), true((PLACE, 1))))
    assert (result.map, result.map_50, result.frames) == (1.0, 1.0, 1)
    [dog] = result.classes
    assert (dog.label, dog.objects, dog.ap) == ("dog", 1, 1.0)


def test_a_loose_box_counts_up_to_its_overlap():
    result = figures((found(((0, 0, 10, 7.2), 0.9, 0)), true((PLACE, 0))))  # IoU 0.72
    assert result.map_50 == 1.0
    assert result.map == pytest.approx(0.5)  # 0.50 0.55 0.60 0.65 0.70 of ten


def test_classes_weigh_the_same():
    detections = found((PLACE, 0.9, 0), (ELSEWHERE, 0.8, 0))
    result = figures((detections, true((PLACE, 0), (ELSEWHERE, 0), (PLACE, 1))))
    assert result.map == 0.5
    assert [(each.label, each.ap) for each in result.classes] == [("0", 1.0), ("1", 0.0)]


def test_a_class_without_objects_is_left_out():
    result = figures((found((PLACE, 0.9, 0), (PLACE, 0.9, 7)), true((PLACE, 0))))
    assert result.map == 1.0
    assert len(result.classes) == 1


def test_a_false_one_in_a_frame_without_objects_costs():
    result = figures((found((PLACE, 0.5, 0)), true((PLACE, 0))), (found((PLACE, 0.9, 0)), true()))
    assert result.map == 0.5


def test_the_second_box_of_an_object_is_false():
    twice = found((PLACE, 0.9, 0), (PLACE, 0.8, 0), (ELSEWHERE, 0.7, 0))
    result = figures((twice, true((PLACE, 0), (ELSEWHERE, 0))))
    assert result.map == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_nothing_labelled_is_no_figure():
    assert (figures().map, figures((found((PLACE, 0.9, 0)), true())).map_50) == (None, None)


def test_boxes_in_a_crowd_do_not_count():
    truth = true((PLACE, 0), ((40, 40, 100, 100), 0, True))
    in_crowd = ((45, 45, 55, 55), 0.95, 0), ((60, 60, 70, 70), 0.93, 0)
    assert figures((found(*in_crowd, (PLACE, 0.9, 0)), truth)).map == 1.0


def test_a_hundred_boxes_of_a_class_count():
    false = [((200, 200, 210, 210), 0.9, 0)] * 100
    assert figures((found(*false, (PLACE, 0.8, 0)), true((PLACE, 0)))).map == 0.0
    assert figures((found(*false[1:], (PLACE, 0.8, 0)), true((PLACE, 0)))).map == pytest.approx(0.01)


def plain_ap(frames, class_index, iou_min):
    """Transcribe the evaluation's loops: one class, one overlap."""
    hits, objects = [], 0
    for detections, truth in frames:
        mine = [g for g in range(len(truth.class_indices)) if truth.class_indices[g] == class_index]
        mine.sort(key=lambda g: truth.is_crowd[g])
        objects += sum(not truth.is_crowd[g] for g in mine)
        ranked = [d for d in range(len(detections.scores)) if detections.class_indices[d] == class_index]
        ranked.sort(key=lambda d: -detections.scores[d])
        taken = set()
        for d in ranked[:100]:
            chosen = plain_choice(detections.boxes_xyxy_px[d].tolist(), truth, mine, taken, iou_min)
            taken.add(chosen)
            if chosen is None or not truth.is_crowd[chosen]:
                hits.append((float(detections.scores[d]), chosen is not None))
    hits.sort(key=lambda hit: -hit[0])
    return sum(plain_precision(hits, objects, recall) for recall in RECALLS) / len(RECALLS)


def plain_choice(box, truth, mine, taken, iou_min):
    best, chosen = iou_min, None
    for g in mine:
        if g in taken and not truth.is_crowd[g]:
            continue
        if chosen is not None and not truth.is_crowd[chosen] and truth.is_crowd[g]:
            break
        overlap = plain_iou(box, truth.boxes_xyxy_px[g], truth.is_crowd[g])
        if overlap >= best:
            best, chosen = overlap, g
    return chosen


def plain_precision(hits, objects, recall):
    true_count, best = 0, 0.0
    for place, (_, is_hit) in enumerate(hits, 1):
        true_count += is_hit
        if true_count / objects >= recall:
            best = max(best, true_count / place)
    return best


def plain_iou(one, other, is_crowd):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    common = max(width, 0) * max(height, 0)
    area, other_area = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return common / (area if is_crowd else area + other_area - common)


def random_frames(seed, count=12):
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        objects = random.integers(0, 7)
        corners = random.uniform(0, 60, (objects, 2))
        boxes = np.hstack([corners, corners + random.uniform(15, 40, (objects, 2))])
        classes = random.integers(0, 3, objects)
        truth = TrueBoxes(boxes, classes, random.random(objects) < 0.2)
        kept = np.repeat(np.arange(objects), random.integers(0, 4, objects))
        rows = boxes[kept] + random.normal(0, 2, (len(kept), 4))
        wrong = random.random(len(kept)) < 0.2
        indices = np.where(wrong, random.integers(0, 3, len(kept)), classes[kept])
        scores = random.random(len(kept)).astype(np.float32)
        frames.append((Detections(rows.astype(np.float32), scores, indices, ()), truth))
    return frames


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_the_plain_loops_say(seed):
    frames = random_frames(seed)
    result = figures(*frames)
    assert len(result.classes) == 3
    for each in result.classes:
        plain = [plain_ap(frames, int(each.label), iou_min) for iou_min in IOUS]
        assert (each.ap_50, each.ap) == (pytest.approx(plain[0]), pytest.approx(np.mean(plain)))
    assert result.map == pytest.approx(np.mean([each.ap for each in result.classes]))
    assert 0.05 < result.map < 0.95
