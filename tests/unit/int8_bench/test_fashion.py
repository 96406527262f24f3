"""The network that the bench trains."""

import numpy as np
import pytest

from tests.int8_bench.fashion_cnn import as_onnx
from tests.int8_bench.fashion_training import forward, gradients, new_weights, train

onnxruntime = pytest.importorskip("onnxruntime")


def pictures(count, seed=0):
    """Ten kinds of picture: a bright bar, at one of ten heights, on noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    made = random.random((count, 28, 28, 1), np.float32) * 0.5
    for picture, label in zip(made, labels, strict=True):
        picture[2 * label + 2 : 2 * label + 5] += 1
    return made, labels


def loss(weights, x, labels):
    logits = forward(weights, x)
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]))


@pytest.mark.parametrize("name", ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "dense.weight"])
def test_gradients_are_those_of_small_steps(name):
    x, labels = pictures(4)
    x, weights = x.astype(np.float64), {k: v.astype(np.float64) for k, v in new_weights(3).items()}
    found = gradients(weights, x, labels)[name].ravel()
    chosen = np.argsort(-np.abs(found))[:4]
    for index in chosen:
        changed = []
        for step in (1e-6, -1e-6):
            moved = {key: value.copy() for key, value in weights.items()}
            moved[name].reshape(-1)[index] += step
            changed.append(loss(moved, x, labels))
        assert (changed[0] - changed[1]) / 2e-6 == pytest.approx(found[index], rel=1e-3)


def test_training_learns_and_repeats():
    x, labels = pictures(600)
    weights = train(x, labels, epochs=4, seed=1)
    fresh, expected = pictures(200, seed=9)
    assert (forward(weights, fresh).argmax(axis=1) == expected).mean() > 0.9
    again = train(x, labels, epochs=4, seed=1)
    assert all(np.allclose(weights[name], again[name], atol=1e-4) for name in weights)


def test_the_onnx_file_computes_the_same():
    weights = new_weights(5)
    x, _ = pictures(6)
    session = onnxruntime.InferenceSession(as_onnx(weights).SerializeToString())
    (logits,) = session.run(None, {"images": x.transpose(0, 3, 1, 2)})
    assert logits == pytest.approx(forward(weights, x), abs=1e-4)
