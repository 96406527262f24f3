"""Weights as INT8 with a scale for each output channel, and the bias that makes up for their rounding."""

from __future__ import annotations

import numpy as np

from edgert.calibrate.quantize.layers import Layer
from edgert.frames.result import Array

LEVELS = 127  # on each side of zero
SCALE_MIN = float(np.finfo(np.float32).tiny)  # below, a float32 has fewer digits, and none of its inverse
_SHARES = np.linspace(0.7, 1.0, 31, dtype=np.float32)  # of the largest weight of a channel that may be 127
_BLOCK = 1 << 20  # weights at once: what is made of them is several times as large


def quantize_weights(weights: Array, axis: int) -> tuple[Array, Array]:
    """Return INT8 weights of the same shape and (channels,) FP32 scales, the best in squared error.

    A channel of zeros, or of weights too small for a scale, becomes zeros with scale 1.
    """
    by_channel = np.moveaxis(weights, axis, 0)
    flat = by_channel.reshape(len(by_channel), -1)
    quantized, scales = np.empty(flat.shape, np.int8), np.empty(len(flat), np.float32)
    rows = max(1, _BLOCK // max(flat.shape[1], 1))
    for start in range(0, len(flat), rows):
        part = slice(start, start + rows)
        quantized[part], scales[part] = _quantize_rows(flat[part])
    shaped = np.moveaxis(quantized.reshape(by_channel.shape), 0, axis)
    return np.ascontiguousarray(shaped), scales


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
        return _corrected_product(layer, bias, error, means)
    kernels = error.sum(axis=tuple(range(2, error.ndim)))  # (out, in / groups)
    by_group = kernels.reshape(layer.groups, -1, kernels.shape[1])
    shift = np.einsum("goi,gi->go", by_group, means.reshape(layer.groups, -1)).reshape(-1)
    return np.asarray(bias - shift, np.float32)


def _corrected_product(layer: Layer, bias: Array, error: Array, means: Array) -> Array | None:
    """Return the bias of alpha * product + beta * bias; None where beta leaves nothing of it."""
    alpha, beta = (float(layer.node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    if beta == 0:
        return None
    shift = error @ means if layer.channel_axis == 0 else means @ error
    return np.asarray(bias - alpha / beta * shift, np.float32)


def _quantize_rows(weights: Array) -> tuple[Array, Array]:
    """Return INT8 (channels, n) and scales (channels,) of weights (channels, n).

    The search is among weights by their channel's largest, which neither over- nor underflow.
    """
    largest = np.abs(weights).max(axis=1, initial=0.0, keepdims=True)
    is_dead = largest < LEVELS * SCALE_MIN
    unit = np.where(is_dead, 0, weights) / np.where(is_dead, 1, largest)
    best, least = np.ones_like(largest), np.full_like(largest, np.inf)
    for share in _SHARES:
        error = ((_rounded(unit, share / LEVELS) * (share / LEVELS) - unit) ** 2).sum(axis=1, keepdims=True)
        best = np.where(error <= least, share, best)
        least = np.minimum(error, least)
    scales = np.where(is_dead, 1, np.maximum(largest * best / LEVELS, SCALE_MIN)).astype(np.float32)
    return _rounded(np.where(is_dead, 0, weights), scales).astype(np.int8), scales[:, 0]


def _rounded(weights: Array, scales: Array) -> Array:
    rounded: Array = np.clip(np.rint(weights / scales), -LEVELS, LEVELS)
    return rounded
