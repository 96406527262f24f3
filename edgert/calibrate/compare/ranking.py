"""Which of several candidates comes nearest to the reference, judged by few frames."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from edgert.calibrate.compare.comparison import ComparisonFigures

Name = TypeVar("Name", bound=Hashable)


def nearest(figures: Mapping[Name, ComparisonFigures]) -> Name:
    """Return the name of the nearest candidate, the first of equals.

    An agreement that is no more than one standard error below the best may be luck, so among these the
    outputs themselves decide, whose cosine is a finer measure. Raises ValueError if there is none.
    """
    best = max(figures.values(), key=lambda each: each.agreement)
    least = best.agreement - standard_error(best)
    among = [name for name, each in figures.items() if each.agreement >= least]
    return min(among, key=lambda name: distance(figures[name]))


def standard_error(figures: ComparisonFigures) -> float:
    """Return that of the agreement, but not less than what one frame, or one detection, changes."""
    counted = figures.detections.reference_count if figures.detections else figures.frames
    share, counted = figures.agreement, max(counted, 1)
    return max(math.sqrt(share * (1 - share) / counted), 1 / counted)


def distance(figures: ComparisonFigures) -> float:
    """Return 1 less the cosine, the mean over outputs and frames; 0 where no output was compared."""
    cosines = [output.cosine_mean for output in figures.tensors]
    return 1 - sum(cosines) / len(cosines) if cosines else 0.0
