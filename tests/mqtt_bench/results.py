"""Results as a detector on a street makes them."""

from __future__ import annotations

import time

import numpy as np

from edgert.frames.result import Detections, Result

LABELS = ["person", "bicycle", "car", "motorcycle", "bus"]
BOXES = 5


def make_output(count: int = BOXES) -> Detections:
    """Return boxes at random places."""
    random = np.random.default_rng(0)
    boxes = np.sort(random.random((count, 2, 2)) * 600, axis=1).reshape(count, 4).astype(np.float32)
    return Detections(boxes, random.random(count).astype("f4"), random.integers(0, 5, count), LABELS)


def make_result(seq: int, output: Detections) -> Result:
    """Return a result that was captured now."""
    return Result("street", seq, "coco", 1, time.time_ns(), time.monotonic_ns(), 1920, 1080, output)
