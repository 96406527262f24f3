"""Frames for calibration, for selection and held out: apart in time, so that none is nearly in two sets.

Frames that follow each other in a video are nearly the same picture. Were neighbours calibrated with and
measured with, the report would praise what it had learnt by heart. So selection and held-out frames are
taken in blocks of time, up to `BLOCKS` each, at seeded places with calibration frames between them, and the
calibration frames that are their immediate neighbours are left out, where enough remain. Pictures of a
folder have no such order: each is dealt out by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCKS = 5  # of a set, at most
BLOCK_FRAMES = 10  # a set of fewer is one block
KEPT_SHARE = 0.8  # of calibration frames that neighbours may not leave below


class Counts(NamedTuple):
    """How many frames each set has."""

    calibration: int
    selection: int
    held_out: int


class Split(NamedTuple):
    """What each set has: places in the sequence of frames that was split, ascending."""

    calibration: list[int]
    selection: list[int]
    held_out: list[int]


def spare_frames(wanted: Counts) -> int:
    """Return how many frames more than wanted are good to have, as neighbours will be left out."""
    return 2 * (_blocks(wanted.selection) + _blocks(wanted.held_out))


def share(frames: int, wanted: Counts) -> Counts:
    """Return how many of so many frames each set gets; what is more than wanted is calibration's.

    Of too few, the two smaller sets get their share, rounded down, at most a third and at least one frame; of
    two frames there is none for selection, of one none but for calibration.
    """
    if frames >= sum(wanted):
        return Counts(frames - wanted.selection - wanted.held_out, wanted.selection, wanted.held_out)
    if frames < 3:
        return Counts(min(frames, 1), 0, max(frames - 1, 0))
    selection, held_out = (max(1, min(frames * count // sum(wanted), frames // 3)) for count in wanted[1:])
    return Counts(frames - selection - held_out, selection, held_out)


def split_by_time(numbers: Sequence[int], wanted: Counts, seed: int) -> Split:
    """Split frames, given by their ascending numbers in the stream: immediate neighbours differ by 1."""
    random = np.random.default_rng(seed)
    counts = share(len(numbers), wanted)
    sets = _lay_out(counts, random)
    apart = np.ones(len(numbers), bool)
    touches = (np.diff(sets) != 0) & (np.diff(numbers) == 1)
    apart[:-1] &= ~touches
    apart[1:] &= ~touches
    calibration = np.flatnonzero(sets == 0)
    remaining = calibration[apart[calibration]]
    if len(remaining) >= KEPT_SHARE * len(calibration):
        calibration = remaining
    chosen = random.permutation(calibration)[: wanted.calibration]
    return Split(sorted(chosen.tolist()), *(np.flatnonzero(sets == kind).tolist() for kind in (1, 2)))


def split_at_random(frames: int, wanted: Counts, seed: int) -> Split:
    """Split so many frames that stand in no order."""
    counts = share(frames, wanted)
    order = np.random.default_rng(seed).permutation(frames)
    parts = np.split(order, np.cumsum(counts)[:-1])
    parts[0] = parts[0][: wanted.calibration]
    return Split(*(sorted(part.tolist()) for part in parts))


def _blocks(count: int) -> int:
    return min(BLOCKS, -(-count // BLOCK_FRAMES))


def _lay_out(counts: Counts, random: np.random.Generator) -> np.ndarray:
    """Return the set of each frame: 0 calibration, 1 selection, 2 held out."""
    blocks = [
        np.full(len(block), kind)
        for kind, count in ((1, counts.selection), (2, counts.held_out))
        for block in np.array_split(np.arange(count), _blocks(count) or 1)
        if len(block)
    ]
    gaps = counts.calibration + 1  # before, between and after the calibration frames
    blocks = [blocks[index] for index in random.permutation(len(blocks))]
    places = np.sort(random.choice(gaps, len(blocks), replace=gaps < len(blocks)))
    laid = np.zeros(counts.calibration, int)
    for place, block in zip(places[::-1], blocks, strict=True):
        laid = np.insert(laid, place, block)
    return laid
