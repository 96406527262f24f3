"""How many layers have to stay in float: the fewest that do as well as the best, but for chance.

Layers are tried in the order of their errors: none, the worst, the two worst, ... Over some 50 frames the
number with the best agreement is often one that was lucky, and each layer in float costs speed and size. So
a number does as well as the best one if its wrong answers are more by no more than one standard deviation of
the difference of two counts (Poisson: the square root of their sum), and if its outputs' cosines, which
hardly depend on luck, fall short by little more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.ranking import distance, nearest

SHORTFALL_RATIO = 1.1  # of 1 - cosine, to the best one's
_ROUNDING = 1e-9


def fewest_layers(tried: Mapping[int, ComparisonFigures], agreement_min: float) -> int:
    """Return the least number that agrees to `agreement_min`; where none does, as well as the best."""
    enough = [count for count, figures in tried.items() if figures.agreement >= agreement_min]
    if enough:
        return min(enough)
    best = tried[nearest(tried)]
    return min(count for count, figures in tried.items() if _is_as_good(figures, best))


def _is_as_good(figures: ComparisonFigures, best: ComparisonFigures) -> bool:
    wrong, least = _wrong(figures), _wrong(best)
    allowed = SHORTFALL_RATIO * distance(best) + _ROUNDING
    return wrong - least <= math.sqrt(wrong + least) + _ROUNDING and distance(figures) <= allowed


def _wrong(figures: ComparisonFigures) -> float:
    """Return how many answers differ: best classes, or detections that one side alone has."""
    if figures.classes:
        return figures.classes.frames * (1.0 - figures.classes.top1_agreement)
    if figures.detections:
        both = figures.detections.reference_count + figures.detections.candidate_count
        return both - 2 * figures.detections.matched
    return 0.0
