"""The classification extension: a tensor's highest values as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgert.errors import RequestError
from edgert.frames.result import Array


def classify(array: Array, count: int, labels: Sequence[str], *, is_batched: bool | None = None) -> Array:
    """Return the `count` highest values as `value:index` or `value:index:label`, best first.

    An object array of bytes, (batch, count) or (count,). Of equal values the first comes first. Without
    `is_batched` the first of several axes is the batch's. Raises RequestError for what has no order.
    """
    if array.dtype.kind not in "iuf":
        raise RequestError(f"classification is not possible for tensors of {array.dtype}")
    if is_batched is None:
        is_batched = array.ndim > 1
    rows = array.reshape(len(array) if is_batched else 1, -1)
    best = np.argsort(-_ordered(rows), axis=1, kind="stable")[:, :count]
    texts = np.empty(best.shape, object)
    for row, column in np.ndindex(*best.shape):
        index = int(best[row, column])
        texts[row, column] = _text(rows[row, index], index, labels)
    return texts if is_batched else texts[0]


def _ordered(rows: Array) -> Array:
    """Return values that can be negated: unsigned ones can't; what is no number comes last."""
    values = rows.astype(np.float64) if rows.dtype.kind != "f" else rows.astype(np.float64, copy=False)
    return np.where(np.isnan(values), -np.inf, values)


def _text(value: float, index: int, labels: Sequence[str]) -> bytes:
    shown = f"{value:f}" if isinstance(value, np.floating) else str(value)
    label = f":{labels[index]}" if index < len(labels) and labels[index] else ""
    return f"{shown}:{index}{label}".encode()
