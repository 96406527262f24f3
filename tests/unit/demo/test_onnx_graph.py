from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edgert.demo.convert.onnx_graph import GraphBuilder, fold_batch_norm, save

RANDOM = np.random.default_rng(7)


def run(model, **inputs):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)


def random(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_folded_batch_norm_gives_what_the_norm_gave(axis):
    weight, (gamma, beta, mean) = random(3, 3, 1, 1), random(3, 3)
    variance = np.abs(random(3)) + 0.1
    x = random(3)
    matrix = weight[..., 0, 0] if axis == 0 else weight[..., 0, 0].T
    expected = (matrix @ x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    folded, bias = fold_batch_norm(weight, gamma, beta, mean, variance, epsilon=1e-3, axis=axis)
    matrix = folded[..., 0, 0] if axis == 0 else folded[..., 0, 0].T
    np.testing.assert_allclose(matrix @ x + bias, expected, rtol=1e-5)


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_pad_as_tensorflow_does(side, kernel, stride):
    """SAME: ceil(side / stride) outputs; the odd row or column of padding comes last."""
    graph = GraphBuilder("one")
    graph.conv(
        graph.image("images", side, side), "y", np.ones((1, 3, kernel, kernel)), np.zeros(1), stride=stride
    )
    sides = -(-side // stride)
    graph.output("y", (1, sides, sides))
    x = random(1, 3, side, side)
    total = max((sides - 1) * stride + kernel - side, 0)
    before, after = total // 2, total - total // 2
    padded = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    expected = windows[:, :, ::stride, ::stride].sum(axis=(1, 4, 5))[:, None]
    np.testing.assert_allclose(run(graph.model(), images=x)[0], expected, atol=1e-5)


def test_blocks_run_with_any_batch():
    graph = GraphBuilder("block")
    x = graph.image("images", 4, 6)
    y = graph.relu6(graph.conv(x, "each", 10 * np.ones((3, 1, 1, 1)), np.ones(3), groups=3))
    graph.add(x, y, "sum")
    graph.output("sum", (3, 4, 6))
    model = graph.model()
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    images = random(5, 3, 4, 6)
    np.testing.assert_allclose(
        run(model, images=images)[0], images + np.clip(10 * images + 1, 0, 6), rtol=1e-5
    )


def test_a_graph_that_does_not_hold_together_is_refused():
    graph = GraphBuilder("bad")
    graph.image("images", 4, 4)
    graph.node("Add", ["images", "nowhere"], "sum")
    graph.output("sum", (3, 4, 4))
    with pytest.raises(onnx.checker.ValidationError, match="nowhere"):
        graph.model()


def test_save_writes_the_labels_a_line_each(tmp_path):
    graph = GraphBuilder("small")
    graph.relu6(graph.image("images", 4, 4))
    graph.output("images.relu6", (3, 4, 4))
    save(graph.model(), ["cat", "hot dog"], tmp_path)
    assert (tmp_path / "labels.txt").read_text() == "cat\nhot dog\n"
    assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 13
