"""A small convolutional network and its training, in NumPy. Pictures are (n, height, width, channels)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from edgert.frames.result import Array

KERNEL = 3
CHANNELS = (16, 32)
CLASSES = 10
BATCH = 100
RATE = 2e-3
MOMENTS = (0.9, 0.999)  # Adam (Kingma and Ba, 2015), with its usual values
EPSILON = 1e-8

Weights = dict[str, Array]


class _Kept(NamedTuple):
    """What a layer's way back needs of its way there."""

    columns: Array
    is_positive: Array
    is_best: Array


def new_weights(seed: int) -> Weights:
    """Return random weights, scaled for ReLU (He et al., 2015), and no biases."""
    random = np.random.default_rng(seed)
    sizes = {"conv1": (KERNEL**2, CHANNELS[0]), "conv2": (KERNEL**2 * CHANNELS[0], CHANNELS[1])}
    sizes["dense"] = (7 * 7 * CHANNELS[1], CLASSES)
    weights: Weights = {}
    for name, (rows, columns) in sizes.items():
        drawn = random.standard_normal((rows, columns)) * np.sqrt(2 / rows)
        weights[f"{name}.weight"] = drawn.astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(columns, np.float32)
    return weights


def train(pictures: Array, labels: Array, *, epochs: int, seed: int) -> Weights:
    """Return the weights after so many passes; the rate falls to nothing towards the end.

    `pictures` are (n, 28, 28, 1) float32.
    """
    random, weights = np.random.default_rng(seed), new_weights(seed)
    adam = _Adam(weights)
    steps, step = epochs * (len(pictures) // BATCH), 0
    for _ in range(epochs):
        order = random.permutation(len(pictures))
        for first in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            adam.step(gradients(weights, pictures[chosen], labels[chosen]), RATE * (1 - step / steps))
            step += 1
    return weights


def forward(weights: Weights, pictures: Array) -> Array:
    """Return the logits, (n, 10)."""
    return _forward(weights, pictures)[0]


def gradients(weights: Weights, pictures: Array, labels: Array) -> Weights:
    """Return the gradient of the mean cross-entropy by each weight."""
    logits, first, second, flat = _forward(weights, pictures)
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    likely[np.arange(len(labels)), labels] -= 1
    by_logits = likely / len(labels)
    found = {"dense.weight": flat.T @ by_logits, "dense.bias": by_logits.sum(axis=0)}
    by_flat = by_logits @ weights["dense.weight"].T
    by_second = _to_columns(second, by_flat.reshape(len(labels), 7, 7, CHANNELS[1]))
    found |= _of_layer("conv2", second, by_second)
    by_columns = by_second @ weights["conv2.weight"].T
    by_first = _to_columns(first, _from_windows(by_columns, len(labels), 14, CHANNELS[0]))
    return found | _of_layer("conv1", first, by_first)


def _forward(weights: Weights, pictures: Array) -> tuple[Array, _Kept, _Kept, Array]:
    hidden, first = _layer(pictures, weights["conv1.weight"], weights["conv1.bias"])
    hidden, second = _layer(hidden, weights["conv2.weight"], weights["conv2.bias"])
    flat = hidden.reshape(len(pictures), -1)
    return flat @ weights["dense.weight"] + weights["dense.bias"], first, second, flat


def _layer(x: Array, weight: Array, bias: Array) -> tuple[Array, _Kept]:
    """Convolution over a border of zeros, ReLU, and the greatest of each 2x2."""
    count, side = x.shape[0], x.shape[1]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = sliding_window_view(padded, (KERNEL, KERNEL), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    columns = windows.reshape(count * side * side, -1)
    y = columns @ weight + bias
    blocks = y.reshape(count, side // 2, 2, side // 2, 2, -1)
    best = blocks.max(axis=(2, 4), keepdims=True)
    return np.maximum(best[:, :, 0, :, 0], 0), _Kept(columns, best > 0, blocks == best)


def _to_columns(kept: _Kept, by_pooled: Array) -> Array:
    """Return the gradient by the convolution's output, a row a pixel."""
    spread = by_pooled[:, :, None, :, None] * kept.is_positive * kept.is_best
    return np.asarray(spread.reshape(-1, by_pooled.shape[-1]))


def _of_layer(name: str, kept: _Kept, by_output: Array) -> Weights:
    return {f"{name}.weight": kept.columns.T @ by_output, f"{name}.bias": by_output.sum(axis=0)}


def _from_windows(by_columns: Array, count: int, side: int, channels: int) -> Array:
    """Add up what the windows say of each pixel: the way back of cutting out windows."""
    windows = by_columns.reshape(count, side, side, KERNEL, KERNEL, channels)
    padded = np.zeros((count, side + 2, side + 2, channels), by_columns.dtype)
    for row in range(KERNEL):
        for column in range(KERNEL):
            padded[:, row : row + side, column : column + side] += windows[:, :, :, row, column]
    return padded[:, 1:-1, 1:-1]


class _Adam:
    """Steps of a size of its own for each weight."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._means = {name: np.zeros_like(value) for name, value in weights.items()}
        self._squares = {name: np.zeros_like(value) for name, value in weights.items()}
        self._count = 0

    def step(self, found: Weights, rate: float) -> None:
        """Change the weights in place."""
        self._count += 1
        fresh = [1 - moment**self._count for moment in MOMENTS]
        for name, gradient in found.items():
            mean, square = self._means[name], self._squares[name]
            mean += (1 - MOMENTS[0]) * (gradient - mean)
            square += (1 - MOMENTS[1]) * (gradient**2 - square)
            self._weights[name] -= rate * (mean / fresh[0]) / (np.sqrt(square / fresh[1]) + EPSILON)
