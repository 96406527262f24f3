import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.unit.decode.decode_reference as reference
from edgert.decode.centerface import CenterFaceOptions
from edgert.decode.factory import open_decoder
from edgert.decode.ssd import SsdOptions
from edgert.decode.yolo import YoloOptions
from edgert.frames.placement import Placement
from edgert.models.tensor_spec import TensorSpec
from tests.unit.decode.decode_reference import f32

seeds = st.integers(0, 2**32 - 1)
placements = st.sampled_from(
    [
        Placement.letterbox(64, 27, 30, 30),
        Placement.letterbox(27, 64, 30, 30),
        Placement.stretch(64, 48, 30, 20),
        Placement.crop(64, 48, 30, 30),
    ]
)
limits = st.sampled_from(
    [{}, {"max_candidates": 5}, {"max_detections": 2}, {"iou_max": 0.1, "score_min": 0.2}]
)
LABELS = ("person", "bicycle", "car")


def specs(**outputs: np.ndarray) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, str(array.dtype), (-1, *array.shape)) for name, array in outputs.items())


def decode(options, labels, outputs, placement):
    return open_decoder(options, labels, specs(**outputs)).decode(outputs, placement)


def scores_of(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return scores with all that engines have been seen to put out."""
    scores = rng.random(shape).astype(f32)
    scores[rng.random(shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf, 1.0])
    return scores


def corner_boxes(rng: np.random.Generator, count: int, size: float) -> np.ndarray:
    """Return boxes of which some are empty, and some lie outside."""
    first = rng.uniform(-0.3, 1, (count, 2))
    return (np.concatenate([first, first + rng.uniform(-0.05, 0.5, (count, 2))], axis=1) * size).astype(f32)


@settings(deadline=None)
@given(seeds, st.integers(0, 30), placements, limits, st.sampled_from(["yxyx", "xyxy"]), st.integers(0, 1))
def test_ssd_equals_the_plain_loop(seed, count, placement, limit, order, offset):
    rng = np.random.default_rng(seed)
    scores, boxes = scores_of(rng, (count, 3 + offset)), corner_boxes(rng, count, 1)
    options = SsdOptions(order=order, class_offset=offset, **limit)
    detections = decode(options, LABELS, {"boxes": boxes, "scores": scores}, placement)
    size = [f32(placement.tensor_width), f32(placement.tensor_height)] * 2
    corners = (1, 0, 3, 2) if order == "yxyx" else (0, 1, 2, 3)
    candidates = []
    for i in range(count):
        if best := reference.best_class(scores[i, offset:], options.score_min):
            candidates.append(
                ([boxes[i, c] * s for c, s in zip(corners, size, strict=True)], best[1], best[0])
            )
    reference.assert_same(detections, reference.finish(candidates, options, placement))


@settings(deadline=None)
@given(seeds, st.integers(0, 30), placements, limits, st.sampled_from(["v5", "v8"]), st.booleans())
def test_yolo_equals_the_plain_loop(seed, count, placement, limit, head, normalized):
    rng = np.random.default_rng(seed)
    size = 1 if normalized else 30
    boxes = rng.uniform(-0.1, 1, (count, 4)).astype(f32) * size
    scores = scores_of(rng, (count, 3))
    objectness = scores_of(rng, (count, 1))
    rows = np.concatenate([boxes, objectness, scores] if head == "v5" else [boxes, scores], axis=1)
    options = YoloOptions(head=head, normalized=normalized, **limit)
    output = rows if head == "v5" else np.ascontiguousarray(rows.T)
    detections = decode(options, LABELS, {"output0": output}, placement)
    side = [f32(placement.tensor_width), f32(placement.tensor_height)] * 2 if normalized else [f32(1)] * 4
    candidates = []
    for i in range(count):
        with np.errstate(invalid="ignore"):
            row = scores[i] * objectness[i] if head == "v5" else scores[i]
        is_object = head == "v8" or objectness[i, 0] >= f32(options.score_min)
        if is_object and (best := reference.best_class(row, options.score_min)):
            box = [v * s for v, s in zip(reference.from_centre(boxes[i]), side, strict=True)]
            candidates.append((box, best[1], best[0]))
    reference.assert_same(detections, reference.finish(candidates, options, placement))


@settings(deadline=None)
@given(seeds, st.integers(0, 30), placements, limits)
def test_yolo_end2end_equals_the_plain_loop(seed, count, placement, limit):
    rng = np.random.default_rng(seed)
    classes = rng.choice(np.array([-1, 0, 1, 2, 3, 1e30, np.nan], f32), (count, 1))
    rows = np.concatenate([corner_boxes(rng, count, 30), scores_of(rng, (count, 1)), classes], axis=1)
    options = YoloOptions(head="end2end", **limit)
    detections = decode(options, LABELS, {"output0": rows}, placement)
    candidates = [
        (row[:4], row[4], int(row[5]))
        for row in rows
        if f32(options.score_min) <= row[4] < np.inf and row[5] in (0, 1, 2)
    ]
    expected = reference.finish(candidates, options, placement, overlap_ok=True)
    reference.assert_same(detections, expected)


def faces(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    return {
        "heatmap": scores_of(rng, (1, height, width)),
        "scale": rng.uniform(-1, 3, (2, height, width)).astype(f32),
        "offset": rng.random((2, height, width)).astype(f32),
        "landmarks": rng.random((10, height, width)).astype(f32),
    }


@settings(deadline=None)
@given(seeds, st.integers(0, 8), st.integers(0, 8), placements, limits)
def test_centerface_equals_the_papers_loop(seed, height, width, placement, limit):
    outputs = faces(np.random.default_rng(seed), height, width)
    options = CenterFaceOptions(**limit)
    detections = decode(options, ("face",), outputs, placement)
    heatmap, scale, offset, marks = outputs.values()
    candidates, landmarks = [], {}
    for y in range(height):
        for x in range(width):
            score = heatmap[0, y, x]
            if f32(options.score_min) <= score < np.inf:
                high, wide = np.exp(scale[:, y, x]) * 4
                x1 = (x + offset[1, y, x] + f32(0.5)) * 4 - wide / 2
                y1 = (y + offset[0, y, x] + f32(0.5)) * 4 - high / 2
                candidates.append(((x1, y1, x1 + wide, y1 + high), score, 0))
                points = [
                    (marks[2 * j + 1, y, x] * wide + x1, marks[2 * j, y, x] * high + y1) for j in range(5)
                ]
                landmarks[float(score)] = placement.points_to_source(np.array([points], f32))[0]
    expected = reference.finish(candidates, options, placement)
    reference.assert_same(detections, expected)
    assert detections.landmarks_xy_px.shape == (len(expected), 5, 2)
    scores = detections.scores.tolist()
    for score, points in zip(scores, detections.landmarks_xy_px, strict=True):
        if list(heatmap.ravel()).count(f32(score)) == 1:
            np.testing.assert_allclose(points, landmarks[score], rtol=1e-4, atol=1e-3)


def test_centerface_finds_its_outputs_by_channels_or_by_name():
    rng = np.random.default_rng(3)
    outputs = faces(rng, 4, 4)
    outputs["heatmap"][0, 2, 1] = 1.0
    numbered = dict(zip(("537", "538", "539", "540"), outputs.values(), strict=True))
    shuffled = dict(reversed(numbered.items()))
    placement = Placement.stretch(16, 16, 16, 16)
    by_channels = decode(CenterFaceOptions(), (), numbered, placement)
    by_name = decode(CenterFaceOptions(outputs=("537", "538", "539", "540")), (), shuffled, placement)
    np.testing.assert_array_equal(by_channels.boxes_xyxy_px, by_name.boxes_xyxy_px)
    assert by_channels.scores[0] == 1


def test_centerface_that_overflows_is_dropped_without_a_warning():
    outputs = faces(np.random.default_rng(0), 2, 2)
    outputs["heatmap"][:] = 0.9
    outputs["scale"][:] = 200
    assert len(decode(CenterFaceOptions(), (), outputs, Placement.stretch(8, 8, 8, 8)).scores) == 0


def test_only_listed_classes_become_detections():
    boxes = np.array([[0, 0, 0.2, 0.2], [0.3, 0.3, 0.6, 0.6], [0.7, 0.7, 0.9, 0.9]], f32)
    scores = np.array([[0.9, 0.8, 0], [0.6, 0.7, 0], [0, 0, 0.9]], f32)
    outputs, placement = {"boxes": boxes, "scores": scores}, Placement.stretch(10, 10, 10, 10)
    detections = decode(SsdOptions(classes=("bicycle", "car")), LABELS, outputs, placement)
    assert detections.class_indices.tolist() == [2, 1]  # not the person's second best class
    without_labels = decode(SsdOptions(classes=("1",)), (), outputs, placement)
    assert without_labels.class_indices.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_outputs_of_other_float_types_become_float32(dtype):
    outputs = {"boxes": np.array([[0.25, 0, 0.5, 1]], dtype), "scores": np.array([[0.75, 0.5]], dtype)}
    detections = decode(SsdOptions(), (), outputs, Placement.stretch(8, 8, 4, 4))
    np.testing.assert_array_equal(detections.boxes_xyxy_px, [[0, 2, 8, 4]])
    assert detections.scores.dtype == detections.boxes_xyxy_px.dtype == f32


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        (SsdOptions(), {"boxes": np.ones((0, 4), f32), "scores": np.ones((0, 3), f32)}),
        (YoloOptions(head="v5"), {"o": np.ones((0, 8), f32)}),
        (YoloOptions(head="v8"), {"o": np.ones((7, 0), f32)}),
        (YoloOptions(head="end2end"), {"o": np.ones((0, 6), f32)}),
    ],
)
def test_outputs_of_no_boxes_give_no_detections(options, outputs):
    detections = decode(options, LABELS, outputs, Placement.stretch(8, 8, 4, 4))
    assert detections.boxes_xyxy_px.shape == (0, 4)
    assert detections.scores.shape == detections.class_indices.shape == (0,)


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        (SsdOptions(score_min=0, normalized=False), {"boxes": corner_boxes(np.random.default_rng(1), 9, 30)}),
        (YoloOptions(head="v5", score_min=0), {}),
        (YoloOptions(head="v8", score_min=0), {}),
        (YoloOptions(head="end2end", score_min=0), {}),
    ],
)
def test_detections_stay_when_the_lane_reuses_its_outputs(options, outputs):
    rng = np.random.default_rng(1)
    shapes = {"v5": (9, 8), "v8": (7, 9), "end2end": (9, 6)}
    if isinstance(options, YoloOptions):
        outputs = {"o": rng.random(shapes[options.head]).astype(f32) * 3}
    else:
        outputs["scores"] = rng.random((9, 3)).astype(f32)
    detections = decode(options, LABELS, outputs, Placement.stretch(30, 30, 30, 30))
    assert len(detections.scores)
    for array in (detections.boxes_xyxy_px, detections.scores, detections.class_indices):
        assert not any(np.shares_memory(array, output) for output in outputs.values())
