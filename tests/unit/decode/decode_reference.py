"""Decoding as plainly as it can be written: one box at a time, float32 as the decoders compute."""

import numpy as np

f32 = np.float32


def greedy_nms(boxes, scores, classes, iou_max: float, limit: int) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if not any(classes[i] == classes[j] and overlap(boxes[j], boxes[i], iou_max) for j in kept):
            kept.append(i)
    return kept[:limit]


def overlap(a, b, iou_max: float) -> bool:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), f32(0))
    height = max(min(a[3], b[3]) - max(a[1], b[1]), f32(0))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return bool(shared > union * f32(iou_max))


def best_class(scores, score_min: float) -> tuple[int, float] | None:
    finite = [(score, -index) for index, score in enumerate(scores) if np.isfinite(score)]
    if not finite or max(finite)[0] < f32(score_min):
        return None
    score, index = max(finite)
    return -index, score


def finish(candidates, options, placement, allowed=None, overlap_ok=False):
    """Return a list of (box in source px, score, class) from a list of the same in tensor px."""
    good = [
        (np.array(box, f32), score, index)
        for box, score, index in candidates
        if box[2] > box[0] and box[3] > box[1] and (allowed is None or index in allowed)
    ]
    good = sorted(good, key=lambda item: -item[1])[: options.max_candidates]
    boxes, scores, classes = [g[0] for g in good], [g[1] for g in good], [g[2] for g in good]
    if not overlap_ok:
        good = [good[i] for i in greedy_nms(boxes, scores, classes, options.iou_max, len(good))]
    found = []
    for box, score, index in good:
        x1, x2 = ((box[i] - placement.offset_x) / placement.scale_x for i in (0, 2))
        y1, y2 = ((box[i] - placement.offset_y) / placement.scale_y for i in (1, 3))
        x1, x2 = (min(max(x, 0), placement.source_width) for x in (x1, x2))
        y1, y2 = (min(max(y, 0), placement.source_height) for y in (y1, y2))
        if f32(x2) > f32(x1) and f32(y2) > f32(y1):
            found.append(((x1, y1, x2, y2), score, index))
    return found[: options.max_detections]


def from_centre(values):
    x, y, w, h = (f32(v) for v in values)
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def assert_same(detections, expected) -> None:
    assert len(detections.scores) == len(expected)
    boxes = np.array([e[0] for e in expected]).reshape(-1, 4)
    np.testing.assert_allclose(detections.boxes_xyxy_px, boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(detections.scores, np.array([e[1] for e in expected], f32))
    np.testing.assert_array_equal(detections.class_indices, [e[2] for e in expected])
    assert detections.boxes_xyxy_px.dtype == f32
    assert detections.scores.dtype == f32
