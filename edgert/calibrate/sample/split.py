"""Frames for calibration, for selection and held out: apart in time, so that none is nearly in two sets.

Frames that follow each other in a video are nearly the same picture. Were neighbours calibrated with and
measured with, the report would praise what it had learnt by heart. So selection and held-out frames are
taken in blocks, up to `BLOCKS` each, at seeded places with calibration frames between them, and frames that
are nearer to a block than the sets are to be apart are left out. Where that would leave too few, there are
fewer blocks, and at last the sets are less far apart. Pictures of a folder have no such order: each is dealt
out by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from edgert.frames.result import Array

BLOCKS = 5  # of a set, at most
BLOCK_FRAMES = 10  # a set of fewer is one block
KEPT_SHARE = 0.6  # of a set that what is left out may not leave below
SPARE_SHARE = 0.4  # of the frames that are wanted
_DRAWS = 4  # of places, for each number of blocks
_HALVINGS = 4  # of the distance, in a short clip


class Counts(NamedTuple):
    """How many frames each set has."""

    calibration: int
    selection: int
    held_out: int


class Split(NamedTuple):
    """What each set has: indices of the frames that were split, ascending."""

    calibration: list[int]
    selection: list[int]
    held_out: list[int]
    apart: float = 0.0  # how far the sets are, in the unit of the frames' places


def spare_frames(wanted: Counts) -> int:
    """Return how many frames more than wanted are good to have, as those near a block will be left out."""
    return round(SPARE_SHARE * sum(wanted)) + 2 * (_blocks(wanted.selection) + _blocks(wanted.held_out))


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


def split_in_order(places: Sequence[float], wanted: Counts, apart: float, seed: int) -> Split:
    """Split frames that stand at `places` of a stream, times or numbers, with the sets `apart` if it can be.

    Frames of two sets that are as far as `apart`, or farther, are far enough.
    """
    random = np.random.default_rng(seed)
    counts, at = share(len(places), wanted), np.asarray(places, np.float64)
    for distance, blocks in _attempts(apart):
        sets = _lay_out(counts, blocks, random)
        kept = _is_apart(sets, at, distance)
        if not distance or _are_enough(sets, sets[kept], wanted):
            break
    calibration, selection, held_out = (np.flatnonzero(kept & (sets == kind)) for kind in range(3))
    chosen = random.permutation(calibration)[: wanted.calibration]
    return Split(sorted(chosen.tolist()), selection.tolist(), held_out.tolist(), distance)


def split_at_random(frames: int, wanted: Counts, seed: int) -> Split:
    """Split so many frames that stand in no order."""
    counts = share(frames, wanted)
    order = np.random.default_rng(seed).permutation(frames)
    parts = np.split(order, np.cumsum(counts)[:-1])
    parts[0] = parts[0][: wanted.calibration]
    calibration, selection, held_out = (sorted(part.tolist()) for part in parts)
    return Split(calibration, selection, held_out)


def _attempts(apart: float) -> Iterator[tuple[float, int]]:
    """Yield distances with numbers of blocks, the best first; the last distance is 0."""
    distances = [apart / 2**halvings for halvings in range(_HALVINGS + 1)] if apart else []
    for distance in distances:
        yield from ((distance, blocks) for blocks in range(BLOCKS, 0, -1) for _draw in range(_DRAWS))
    yield 0.0, BLOCKS


def _blocks(count: int) -> int:
    return min(BLOCKS, -(-count // BLOCK_FRAMES))


def _lay_out(counts: Counts, most: int, random: np.random.Generator) -> Array:
    """Return the set of each frame: 0 calibration, 1 selection, 2 held out, in at most so many blocks."""
    blocks = [
        np.full(len(block), kind)
        for kind, count in ((1, counts.selection), (2, counts.held_out))
        for block in np.array_split(np.arange(count), min(most, _blocks(count)) or 1)
        if len(block)
    ]
    gaps = counts.calibration + 1  # before, between and after the calibration frames
    blocks = [blocks[index] for index in random.permutation(len(blocks))]
    places = np.sort(random.choice(gaps, len(blocks), replace=gaps < len(blocks)))
    laid = np.zeros(counts.calibration, int)
    for place, block in zip(places[::-1], blocks, strict=True):
        laid = np.insert(laid, place, block)
    return laid


def _is_apart(sets: Array, at: Array, distance: float) -> Array:
    """Say which frames are far enough from the sets behind their own: calibration, selection, held out."""
    is_apart = np.ones(len(sets), bool)
    for kind in (1, 2):
        others = np.concatenate([[-np.inf], np.sort(at[sets == kind]), [np.inf]])
        next_one = np.searchsorted(others, at)
        nearest = np.minimum(at - others[next_one - 1], others[next_one] - at)
        is_apart &= (sets >= kind) | (nearest >= distance)
    return is_apart


def _are_enough(laid: Array, kept: Array, wanted: Counts) -> bool:
    """Say whether enough frames of each set are kept, of those that are wanted and were there."""
    there, left = np.bincount(laid, minlength=3), np.bincount(kept, minlength=3)
    return bool(np.all(np.minimum(left, wanted) >= KEPT_SHARE * np.minimum(there, wanted)))
