"""What a recipe's [limits] allow an INT8 model to lose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, structs

from edgert.calibrate.compare.comparison import ComparisonFigures
from edgert.config import Options

Share = Annotated[float, Meta(ge=0, le=1)]
_ROUNDING = 1e-9  # 0.87 - 0.86 is a little more than 0.01
_MOST_DIGITS = 12


class AccuracyLimits(Options, frozen=True, kw_only=True):
    """All are 0..1 and optional; over the held-out frames, INT8 against FP32."""

    top1_agreement_min: Share | None = None
    recall_min: Share | None = None  # of FP32's detections
    precision_min: Share | None = None  # of INT8's detections
    score_error_max: Share | None = None  # mean, of a detection that both have
    cosine_min: Share | None = None  # of the worst output in the worst frame
    accuracy_drop_max: Share | None = None  # top-1, of the labelled frames
    map_drop_max: Share | None = None  # IoU 0.5 to 0.95, of the labelled frames

    @property
    def are_set(self) -> bool:
        """There is one at least."""
        return any(limit is not None for limit in structs.asdict(self).values())


def problems_of(limits: AccuracyLimits, figures: ComparisonFigures) -> tuple[str, ...]:
    """Return what is over a limit, and which limits nothing was measured for; empty: all are kept."""
    return tuple(_problems(limits, figures))


def _problems(limits: AccuracyLimits, figures: ComparisonFigures) -> Iterator[str]:
    at_least = (
        ("top-1 agreement", limits.top1_agreement_min, figures.top1_agreement),
        ("recall", limits.recall_min, figures.recall),
        ("precision", limits.precision_min, figures.precision),
        ("cosine", limits.cosine_min, figures.cosine_min),
    )
    for name, limit, value in at_least:
        if limit is not None and (value is None or value < limit - _ROUNDING):
            yield _problem(name, value, limit, "{} or more")
    at_most = (
        ("score error", limits.score_error_max, figures.score_error),
        ("drop of the accuracy", limits.accuracy_drop_max, figures.accuracy_drop),
        ("drop of the mAP", limits.map_drop_max, figures.map_drop),
    )
    for name, limit, value in at_most:
        if limit is not None and (value is None or value > limit + _ROUNDING):
            yield _problem(name, value, limit, "at most {}")


def _problem(name: str, value: float | None, limit: float, wanted: str) -> str:
    if value is None:
        return f"{name} could not be measured, expected {wanted.format(f'{limit:.3f}')}"
    digits = next(
        (count for count in range(3, _MOST_DIGITS) if f"{value:.{count}f}" != f"{limit:.{count}f}"),
        _MOST_DIGITS,
    )
    return f"{name} {value:.{digits}f}, expected {wanted.format(f'{limit:.{digits}f}')}"
