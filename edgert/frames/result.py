"""What a decoder hands on. Arrays, not objects: what is not published costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Detections(msgspec.Struct, gc=False, eq=False):
    """n boxes in source pixels, best score first."""

    boxes_xyxy_px: Array  # (n, 4) float32
    scores: Array  # (n,) float32, 0..1
    class_indices: Array  # (n,) integer
    labels: Sequence[str]  # by class index; empty: the index is the label
    landmarks_xy_px: Array | None = None  # (n, points, 2) float32


class Classes(msgspec.Struct, gc=False, eq=False):
    """The k best classes, best first."""

    scores: Array  # (k,) float32
    class_indices: Array  # (k,) integer
    labels: Sequence[str]


class Tensors(msgspec.Struct, gc=False, eq=False):
    """Outputs as the engine gave them, one frame's part, copied out of the lane."""

    tensors: Mapping[str, Array]


Output = Detections | Classes | Tensors


class Result(msgspec.Struct, gc=False, eq=False):
    """One model's output for one frame, with the frame's identity."""

    source: str
    seq: int
    model: str
    version: int
    captured_utc_ns: int
    captured_mono_ns: int
    width: int
    height: int
    output: Output
    boot: str = ""  # the start of the process that made it; empty: this one


def label_of(labels: Sequence[str], class_index: int) -> str:
    """Return the label, or the index as text where the labels do not reach."""
    return labels[class_index] if 0 <= class_index < len(labels) else str(class_index)
