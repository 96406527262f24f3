"""Weights as INT8 with a scale for each output channel, and the bias that makes up for their rounding."""

from __future__ import annotations

import numpy as np

from edgert.calibrate.quantize.layers import Layer
from edgert.frames.result import Array

LEVELS = 127  # on each side of zero
_SHARES = np.linspace(0.7, 1.0, 31, dtype=np.float32)  # of the largest weight of a channel that may be 127


def quantize_weights(weights: Array, axis: int) -> tuple[Array, Array]:
    """Return INT8 weights of the same shape and (channels,) FP32 scales, the best in squared error.

    A channel of zeros has scale 1.
    """
    others = tuple(index for index in range(weights.ndim) if index != axis)
    largest = np.abs(weights).max(axis=others, keepdims=True)
    best, least = largest, np.full_like(largest, np.inf)
    for share in _SHARES:
        scales = _scales(largest * share)
        error = ((_rounded(weights, scales) * scales - weights) ** 2).sum(axis=others, keepdims=True)
        best = np.where(error <= least, largest * share, best)
        least = np.minimum(error, least)
    scales = _scales(best)
    return _rounded(weights, scales).astype(np.int8), scales.reshape(-1).astype(np.float32)


def corrected_bias(layer: Layer, quantized: Array, scales: Array, means: Array) -> Array | None:
    """Return the layer's bias less what the rounded weights add on average; None where it has none.

    `means` are those of the layer's input, (in,) by channel, in FP32. Nagel et al. 2019, section 4.2.
    """
    bias = layer.bias
    if bias is None or layer.operator not in ("Conv", "Gemm"):
        return None
    sides = [-1 if index == layer.channel_axis else 1 for index in range(quantized.ndim)]
    error = quantized.astype(np.float32) * scales.reshape(sides) - layer.weights
    if layer.operator == "Gemm":
        shift = error @ means if layer.channel_axis == 0 else means @ error
    else:
        kernels = error.sum(axis=tuple(range(2, error.ndim)))  # (out, in / groups)
        by_group = kernels.reshape(layer.groups, -1, kernels.shape[1])
        shift = np.einsum("goi,gi->go", by_group, means.reshape(layer.groups, -1)).reshape(-1)
    return np.asarray(bias - shift, np.float32)


def _scales(largest: Array) -> Array:
    return np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)


def _rounded(weights: Array, scales: Array) -> Array:
    rounded: Array = np.clip(np.rint(weights / scales), -LEVELS, LEVELS)
    return rounded
