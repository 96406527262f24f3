"""Which layers stay in float, and how many have to: the fewest that do as well as the best, but for chance.

Layers are tried in the order of what they bring: none, and the more the greater the steps. Over some
50 frames the number with the best agreement is often one that was lucky, and each layer in float costs
speed and size. So a number does as well as the best one if its wrong answers are more by no more than one
standard deviation of the difference of two counts (Poisson: the square root of their sum), and if its
outputs' cosines, which hardly depend on luck, fall short by little more.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.calibrate.compare.ranking import distance
from edgert.calibrate.quantize.layers import Layer

Name = TypeVar("Name", bound=Hashable)

LAYER_SHARE = 0.01  # of all weights: so many more in float cost as much as one more layer
SURE = 2.0  # standard deviations
SHORTFALL_RATIO = 1.1  # of 1 - cosine, to the best one's
_ROUNDING = 1e-9


def worst_layers(errors: Mapping[str, float], layers: Iterable[Layer]) -> list[str]:
    """Return the layers in the order in which they should stay in float, by error for what that costs.

    Each costs speed, and its weights, of which four times as many bytes are stored, size.
    """
    sizes = {layer.name: layer.weights.size for layer in layers}
    whole = sum(sizes.values())
    return sorted(errors, key=lambda layer: -errors[layer] / (1 + sizes[layer] / whole / LAYER_SHARE))


def counts_tried(most: int) -> list[int]:
    """Return `most`, half of it, a quarter, ... 0, the least first: one of many hardly changes anything."""
    counts = [most]
    while counts[-1]:
        counts.append(counts[-1] // 2)
    return counts[::-1]


def fewest_layers(tried: Mapping[int, ComparisonFigures], agreement_min: float) -> int:
    """Return the least number that agrees to `agreement_min`; where none does, as well as the best.

    To agree in all of a few frames may be luck too, so 1.0 asks for as well as the best.
    """
    enough = [count for count, figures in tried.items() if figures.agreement >= agreement_min]
    if enough and agreement_min < 1:
        return min(enough)
    best = tried[surely_nearest(tried)]
    return min(count for count, figures in tried.items() if _is_as_good(figures, best))


def surely_nearest(tried: Mapping[Name, ComparisonFigures]) -> Name:
    """Return the one whose outputs are nearest, of those whose answers are not surely worse than another's.

    For candidates that differ in little: few answers change then, and which of them is luck.
    """
    least = min(map(_wrong, tried.values()))
    among = [name for name, each in tried.items() if _wrong(each) - least <= SURE * _chance(each, least)]
    return min(among, key=lambda name: (distance(tried[name]), _wrong(tried[name])))


def _is_as_good(figures: ComparisonFigures, best: ComparisonFigures) -> bool:
    least, allowed = _wrong(best), SHORTFALL_RATIO * distance(best) + _ROUNDING
    return _wrong(figures) - least <= _chance(figures, least) and distance(figures) <= allowed


def _chance(figures: ComparisonFigures, least: float) -> float:
    """Return one standard deviation of the difference of two counts."""
    return math.sqrt(_wrong(figures) + least) + _ROUNDING


def _wrong(figures: ComparisonFigures) -> float:
    """Return how many answers differ: best classes, or detections that one side alone has."""
    if figures.classes:
        return figures.classes.frames * (1.0 - figures.classes.top1_agreement)
    if figures.detections:
        both = figures.detections.reference_count + figures.detections.candidate_count
        return both - 2 * figures.detections.matched
    return 0.0
