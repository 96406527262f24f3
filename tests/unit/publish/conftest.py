from __future__ import annotations

import numpy as np
import pytest

from edgert.frames.result import Detections, Result


@pytest.fixture
def make_result():
    """Return a function that makes a result; keywords replace its fields."""

    def make(seq=0, **fields):
        output = Detections(np.array([[1, 2, 3, 4]], "f4"), np.array([0.5], "f4"), np.array([0]), ["cat"])
        values = {
            "source": "porch",
            "model": "detector",
            "version": 1,
            "captured_utc_ns": 1_000,
            "captured_mono_ns": 2_000,
            "width": 640,
            "height": 480,
            "output": output,
        }
        return Result(seq=seq, **{**values, **fields})

    return make
