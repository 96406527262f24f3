"""Which frames of a stream are kept: every one alike, or such as differ most. One pass, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from edgert.calibrate.sample.descriptor import DESCRIPTOR_LENGTH, describe
from edgert.frames.result import Array

POOL_FACTOR = 2  # candidates for the farthest-point choice, by what is to be chosen
SAME = 1e-12  # squared distance of descriptors that are taken for the same picture


class FrameChoice(Protocol):
    """Keeps frames in places that are numbered from 0. The same frames and seed give the same choice."""

    def place_for(self, image: Array, pixel_format: str) -> int | None:
        """Return the place that the next frame takes, whatever stood there; None: it is not kept."""

    def chosen(self, count: int) -> Sequence[int]:
        """Return at most `count` places that are taken, the first chosen first."""


class Reservoir:
    """Every frame of the stream has the same chance (algorithm R; Vitter 1985, Random Sampling with a
    Reservoir). Pixels are not looked at.
    """  # noqa: D205

    def __init__(self, capacity: int, seed: int) -> None:
        self._capacity = capacity
        self._random = np.random.default_rng(seed)
        self._offered = 0

    def place_for(self, image: Array, pixel_format: str) -> int | None:
        """Return a free place, or, with the chance that the frame has, one at random."""
        number = self._offered
        self._offered += 1
        place = number if number < self._capacity else int(self._random.integers(number + 1))
        return place if place < self._capacity else None

    def chosen(self, count: int) -> Sequence[int]:
        """Return places at random."""
        order = self._random.permutation(min(self._offered, self._capacity))
        return [int(place) for place in order[:count]]


class FarthestPoint:
    """Frames that differ most, by their descriptors; near-duplicates are left out where there is better.

    While the stream runs, a frame that differs from all others kept by more than the two that are most alike
    takes the place of one of these. Of what is kept at the end, each next one is farthest from all before
    (Gonzalez 1985, Clustering to Minimize the Maximum Intercluster Distance), from a start by the seed.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._descriptors = np.empty((POOL_FACTOR * capacity, DESCRIPTOR_LENGTH), np.float32)
        self._nearest = np.full(len(self._descriptors), np.inf, np.float32)  # squared distance
        self._neighbour = np.full(len(self._descriptors), -1)  # … and to whom
        self._count = 0

    def place_for(self, image: Array, pixel_format: str) -> int | None:
        """Return a free place, or that of one of the two most alike, if this frame is less so."""
        descriptor = describe(image, pixel_format)
        distances = self._distances(descriptor)
        if distances.min(initial=np.inf) <= SAME:
            return None
        place = self._count
        if place == len(self._descriptors):
            place = int(self._nearest.argmin())
            distances[place] = np.inf
            if distances.min() <= self._nearest[place]:
                return None
        self._put(place, descriptor, distances)
        return place

    def chosen(self, count: int) -> Sequence[int]:
        """Return the places in the order of the greedy choice."""
        order: list[int] = []
        nearest = np.full(self._count, np.inf, np.float32)
        place = int(self._random.integers(self._count)) if self._count else 0
        for _ in range(min(count, self._count)):
            order.append(place)
            np.minimum(nearest, self._distances(self._descriptors[place]), out=nearest)
            nearest[place] = -1.0
            place = int(nearest.argmax())
        return order

    def _put(self, place: int, descriptor: Array, distances: Array) -> None:
        """Let the descriptor take the place; `distances` are to those that stay, infinite at the place."""
        self._descriptors[place] = descriptor
        self._count = max(self._count, place + 1)
        for orphan in np.flatnonzero(self._neighbour[: self._count] == place):
            self._find_neighbour(int(orphan))
        closer = np.flatnonzero(distances < self._nearest[: len(distances)])
        self._nearest[closer], self._neighbour[closer] = distances[closer], place
        self._find_neighbour(place)

    def _find_neighbour(self, place: int) -> None:
        distances = self._distances(self._descriptors[place])
        distances[place] = np.inf
        neighbour = int(distances.argmin())
        self._nearest[place], self._neighbour[place] = distances[neighbour], neighbour

    def _distances(self, descriptor: Array) -> Array:
        """Return the squared distances to all that are kept."""
        difference = self._descriptors[: self._count] - descriptor
        return np.asarray(np.einsum("ij,ij->i", difference, difference))


def make_choice(kind: Literal["reservoir", "farthest"], capacity: int, seed: int) -> FrameChoice:
    """Return a choice that keeps at least `capacity` frames, if there are so many."""
    return Reservoir(capacity, seed) if kind == "reservoir" else FarthestPoint(capacity, seed)
