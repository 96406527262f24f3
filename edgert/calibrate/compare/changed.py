"""The held-out frames whose answers changed most."""

from __future__ import annotations

import heapq

import msgspec
import numpy as np

from edgert.frames.matching import detections_at
from edgert.frames.result import Classes, Detections, Output

MAX_FRAMES = 12
MAX_BOXES = 50  # of each side, best first


class ChangedFrame(msgspec.Struct, frozen=True, eq=False):
    """One frame and what either model says of it; None for outputs that nobody can draw."""

    file: str
    difference: float
    width: int  # of the frame whose pixels the boxes are in
    height: int
    reference: Detections | Classes | None
    candidate: Detections | Classes | None

    def above(self, score_min: float) -> ChangedFrame:
        """Return the frame without the boxes that score less, which were not compared."""
        sides = (_above(side, score_min) for side in (self.reference, self.candidate))
        return ChangedFrame(self.file, self.difference, self.width, self.height, *sides)


class MostChanged:
    """Keeps the frames with the largest differences; of equals the first."""

    def __init__(self, limit: int = MAX_FRAMES) -> None:
        self._limit = limit
        self._seen = 0
        self._kept: list[tuple[float, int, ChangedFrame]] = []

    def add(
        self, file: str, difference: float, size: tuple[int, int], reference: Output, candidate: Output
    ) -> None:
        """Offer one frame of `size` width, height. One that has not changed is not kept."""
        self._seen += 1
        rank = difference, -self._seen
        if difference <= 0 or (len(self._kept) >= self._limit and rank < self._kept[0][:2]):
            return
        frame = ChangedFrame(file, difference, *size, _drawable(reference), _drawable(candidate))
        heapq.heappush(self._kept, (*rank, frame))
        if len(self._kept) > self._limit:
            heapq.heappop(self._kept)

    def frames(self) -> list[ChangedFrame]:
        """Return them, the most changed first."""
        return [frame for *_, frame in sorted(self._kept, key=lambda kept: kept[:2], reverse=True)]


def _above(side: Detections | Classes | None, score_min: float) -> Detections | Classes | None:
    if not isinstance(side, Detections):
        return side
    return detections_at(side, np.flatnonzero(side.scores >= np.float32(score_min)))


def _drawable(output: Output) -> Detections | Classes | None:
    if isinstance(output, Detections):
        return detections_at(output, np.arange(min(MAX_BOXES, len(output.scores))))
    return output if isinstance(output, Classes) else None
