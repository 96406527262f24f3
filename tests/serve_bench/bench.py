"""What every figure gets: a folder, the peer if there is one, the detector, and how much to do."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.serve_bench.triton import Triton


class Bench(NamedTuple):
    """`folder` is the figure's own."""

    folder: Path
    triton: Triton | None
    ssd: Path  # the demo's COCO detector
    is_quick: bool

    def rounds(self, count: int) -> int:
        """Return in how many rounds to measure."""
        return 2 if self.is_quick else count

    def seconds(self, count: float) -> float:
        """Return how long to measure in each round."""
        return count / 5 if self.is_quick else count

    def times(self, count: int) -> int:
        """Return how often to do a thing."""
        return max(count // 10, 1) if self.is_quick else count
