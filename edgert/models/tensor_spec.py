"""Name, type and shape of a tensor."""

from __future__ import annotations

import msgspec
import numpy as np


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output. `shape` includes the batch axis if the model batches; -1 is variable."""

    name: str
    dtype: str  # NumPy's name: float32, float16, uint8, int64, ...; `object` for text
    shape: tuple[int, ...]

    @property
    def is_static(self) -> bool:
        """All sides are known (the batch axis is left out)."""
        return all(side >= 0 for side in self.shape[1:])

    def with_batch(self, batch: int) -> tuple[int, ...]:
        """Return the shape with the first axis set to `batch`."""
        return (batch, *self.shape[1:])


def item_bytes(dtype: str) -> int:
    """Return the size of one element."""
    return np.dtype(dtype).itemsize
