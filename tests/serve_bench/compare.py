"""What the figures are made of: contenders in alternation, medians, and verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tests.bench.figures import Row

T = TypeVar("T")
NOT_COMPARED = "not compared: name a Python that has nvidia-pytriton with --tritonserver"


class Ratio(NamedTuple):
    """Ratios of two contenders, one of each round."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


def in_turns(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Return what each contender measured in each round; the order is turned round from round to round."""
    measured: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in names:
            measured[name].append(contenders[name]())
    return measured


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Compare round by round, because the machine's speed drifts. Nothing against nothing is 0."""
    ratios = [own / other if other else 0.0 for own, other in zip(ours, theirs, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def at_least(figure: str, ratio: Ratio, wanted: float, more: str, data: dict[str, Any]) -> Row:
    """Return a row that is met from `wanted` upwards."""
    return Row(figure, f"{ratio}; {more}", f">= {wanted:.2f}", ratio.median >= wanted, data)


def at_most(figure: str, ratio: Ratio, wanted: float, more: str, data: dict[str, Any]) -> Row:
    """Return a row that is met up to `wanted`."""
    return Row(figure, f"{ratio}; {more}", f"<= {wanted:.2f}", 0 < ratio.median <= wanted, data)


def told(figure: str, value: str, data: dict[str, Any] | None = None) -> Row:
    """Return a row for information."""
    return Row(figure, value, "", True, data or {})


def not_compared(figure: str) -> Row:
    """Return the row of a figure whose other side is not there."""
    return told(figure, NOT_COMPARED)


def middle(values: Sequence[float]) -> float:
    """Return the median; 0 of nothing."""
    return statistics.median(values) if values else 0.0
