"""A detector that keeps its best boxes finds what it found before."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgert.build.onnx_file import read_onnx
from edgert.build.reduce import keep_best_anchors, keep_best_boxes
from edgert.decode.ssd import SsdDecoder, SsdOptions
from edgert.decode.yolo import YoloDecoder, YoloOptions
from edgert.errors import ConfigError
from edgert.frames.placement import Placement
from tests.fakes.onnx_graphs import always, graph, run, save

IMAGE = {"image": np.ones((2, 3, 8, 8), np.float32)}
PLACEMENT = Placement.stretch(640, 480, 300, 300)
ANCHORS = 50


def some_boxes(random, count=ANCHORS):
    corners = np.sort(random.random((count, 2, 2)), axis=1)
    return corners.reshape(count, 4).astype(np.float32)  # y1 x1 y2 x2


def some_scores(random, hits, classes=5, anchors=ANCHORS):
    """Return scores of which `hits` anchors have one of 0.5 or more."""
    scores = random.random((anchors, classes)) * 0.4
    best = random.permutation(anchors)[:hits]
    scores[best, random.integers(0, classes, hits)] = 0.5 + random.random(hits) * 0.5
    return scores.astype(np.float32)


def found_by(decoder, outputs):
    found = decoder.decode({name: array[0] for name, array in outputs.items()}, PLACEMENT)
    return found.boxes_xyxy_px.tolist(), found.scores.tolist(), found.class_indices.tolist()


def ssd(options, outputs):
    shapes = {name: array.shape[1:] for name, array in outputs.items()}
    return found_by(SsdDecoder(options, [], shapes), outputs)


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("seed", range(5))
def test_an_ssd_finds_the_same_up_to_the_count(tmp_path, opset, seed):
    random = np.random.default_rng(seed)
    model = always({"boxes": some_boxes(random), "scores": some_scores(random, hits=20)}, opset=opset)
    file = read_onnx(save(tmp_path, model))
    reduced = keep_best_anchors(file, 20, boxes="boxes", scores="scores")
    before, after = run(model, IMAGE), run(reduced.model, IMAGE)
    assert {name: array.shape for name, array in after.items()} == {
        "boxes": (2, 20, 4),
        "scores": (2, 20, 5),
    }
    options = SsdOptions(score_min=0.5)
    assert ssd(options, after) == ssd(options, before)
    assert len(ssd(options, after)[1]) > 3


def test_of_more_boxes_than_the_count_the_best_stay(tmp_path):
    scores = np.linspace(0.2, 0.9, ANCHORS, dtype=np.float32)[:, None]
    model = always({"boxes": some_boxes(np.random.default_rng(1)), "scores": scores})
    reduced = keep_best_anchors(read_onnx(save(tmp_path, model)), 3, boxes="boxes", scores="scores")
    kept = run(reduced.model, IMAGE)
    assert kept["scores"][0].ravel().tolist() == scores[::-1][:3].ravel().tolist()
    assert np.array_equal(kept["boxes"][1], run(model, IMAGE)["boxes"][1][::-1][:3])


def test_a_background_does_not_rank_anchors(tmp_path):
    random = np.random.default_rng(2)
    scores = some_scores(random, hits=10, classes=4)
    background = np.linspace(0.99, 0.5, ANCHORS, dtype=np.float32)[:, None]
    model = always({"boxes": some_boxes(random), "scores": np.hstack([background, scores])})
    file = read_onnx(save(tmp_path, model))
    reduced = keep_best_anchors(file, 10, boxes="boxes", scores="scores", class_offset=1)
    options = SsdOptions(score_min=0.5, class_offset=1)
    assert ssd(options, run(reduced.model, IMAGE)) == ssd(options, run(model, IMAGE))


def test_equal_scores_stay_in_order(tmp_path):
    scores = np.full((ANCHORS, 2), 0.75, np.float32)
    boxes = some_boxes(np.random.default_rng(3))
    model = always({"boxes": boxes, "scores": scores})
    reduced = keep_best_anchors(read_onnx(save(tmp_path, model)), 7, boxes="boxes", scores="scores")
    assert np.array_equal(run(reduced.model, IMAGE)["boxes"][0], boxes[:7])


@pytest.mark.parametrize("head", ["v5", "v8"])
@pytest.mark.parametrize("seed", range(4))
def test_a_yolo_finds_the_same_up_to_the_count(tmp_path, head, seed):
    random = np.random.default_rng(seed)
    centres = np.hstack([random.random((ANCHORS, 2)) * 300, 5 + random.random((ANCHORS, 2)) * 60])
    scores = some_scores(random, hits=20)
    if head == "v5":
        objectness = random.random((ANCHORS, 1))
        output = np.hstack([centres, objectness, scores]).astype(np.float32)
    else:
        output = np.hstack([centres, scores]).astype(np.float32).T
    model = always({"output0": output})
    reduced = keep_best_boxes(read_onnx(save(tmp_path, model)), 20, output=None, head=head)
    before, after = run(model, IMAGE), run(reduced.model, IMAGE)
    assert after["output0"].shape == ((2, 20, 10) if head == "v5" else (2, 9, 20))

    def found(outputs):
        options = YoloOptions(head=head, score_min=0.5)
        return found_by(YoloDecoder(options, [], {"output0": outputs["output0"].shape[1:]}), outputs)

    assert found(after) == found(before)
    assert found(after)[1]


def test_an_output_that_the_graph_reads_itself_keeps_its_readers(tmp_path):
    nodes = [
        helper.make_node("Relu", ["x"], ["boxes"]),
        helper.make_node("ReduceSum", ["boxes", "last"], ["scores"], keepdims=1),
    ]
    shapes = {"boxes": ["n", 9, 4], "scores": ["n", 9, 1]}
    model = graph(nodes, {"x": ["n", 9, 4]}, shapes, {"last": np.array([2], np.int64)})
    reduced = keep_best_anchors(read_onnx(save(tmp_path, model)), 2, boxes="boxes", scores="scores")
    given = np.arange(36, dtype=np.float32).reshape(1, 9, 4)
    assert run(reduced.model, {"x": given})["boxes"].tolist() == given[:, [8, 7]].tolist()


def test_an_output_that_a_branch_reads_keeps_its_reader(tmp_path):
    branch = [
        helper.make_graph(
            [helper.make_node(operator, ["boxes", "last"], [f"{name}_out"], keepdims=1)],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", 1, None)],
        )
        for name, operator in (("then", "ReduceSum"), ("other", "ReduceSum"))
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["boxes"]),
        helper.make_node("If", ["yes"], ["scores"], then_branch=branch[0], else_branch=branch[1]),
    ]
    shapes = {"boxes": ["n", 9, 4], "scores": ["n", 9, 1]}
    constants = {"last": np.array([2], np.int64), "yes": np.array(True)}
    model = graph(nodes, {"x": ["n", 9, 4]}, shapes, constants)
    reduced = keep_best_anchors(read_onnx(save(tmp_path, model)), 2, boxes="boxes", scores="scores")
    given = np.arange(36, dtype=np.float32).reshape(1, 9, 4)
    assert run(reduced.model, {"x": given})["scores"].shape == (1, 2, 1)


def test_the_file_that_was_read_stays_as_it_is(tmp_path):
    file = read_onnx(save(tmp_path, detector()))
    before = file.message()
    keep_best_anchors(file, 2, boxes="boxes", scores="scores")
    assert file.message() == before


def detector(**options):
    random = np.random.default_rng(0)
    return always({"boxes": some_boxes(random), "scores": some_scores(random, hits=3)}, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": "places"}, "has no output 'places', it has boxes, scores. Give --boxes and --scores"),
        ({"count": ANCHORS}, r"--top-k 50: output 'scores' has 50 boxes, expected more than are kept"),
        ({"count": 0}, "--top-k 0: expected 1 to 3840"),
        ({"count": 3841}, "--top-k 3841: expected 1 to 3840"),
    ],
)
def test_it_says_what_does_not_fit(tmp_path, change, message):
    wanted = {"count": 5, "boxes": "boxes", "scores": "scores", **change}
    file = read_onnx(save(tmp_path, detector()))
    with pytest.raises(ConfigError, match=message):
        keep_best_anchors(file, wanted["count"], boxes=wanted["boxes"], scores=wanted["scores"])


def test_it_says_that_an_opset_is_too_old(tmp_path):
    file = read_onnx(save(tmp_path, detector(opset=12)))
    with pytest.raises(ConfigError, match=r"has opset 12, expected 13 or later. Export it again"):
        keep_best_anchors(file, 5, boxes="boxes", scores="scores")


def test_it_says_that_an_output_has_another_shape(tmp_path):
    file = read_onnx(save(tmp_path, always({"boxes": np.zeros(4), "scores": np.zeros((9, 2))})))
    with pytest.raises(ConfigError, match=r"output 'boxes' is \['batch', 4\], expected 3 axes"):
        keep_best_anchors(file, 5, boxes="boxes", scores="scores")


def test_an_end_to_end_head_has_nothing_to_leave_out(tmp_path):
    file = read_onnx(save(tmp_path, always({"rows": np.zeros((9, 6))})))
    with pytest.raises(ConfigError, match="a head 'end2end' gives few boxes already"):
        keep_best_boxes(file, 5, output=None, head="end2end")


def test_of_several_outputs_one_has_to_be_named(tmp_path):
    file = read_onnx(save(tmp_path, detector()))
    with pytest.raises(ConfigError, match="which output\\? It has boxes, scores"):
        keep_best_boxes(file, 5, output=None, head="v8")
