"""The Sparkplug metrics of a model's results, and which of them have changed.

All begin with `<model>/`:

- `result`, String: the whole result, as the encoder wrote it
- of detections: `count`, Int32; `score`, Float: the best, null if there is none; `labels/<label>`, Int32
- of classes: `label`, String, and `score`, Float, of the best
"""

from __future__ import annotations

import math
from collections import Counter
from functools import lru_cache

from edgert.frames.result import Array, Classes, Detections, Result, label_of
from edgert.publish.sparkplug_payload import DataType, Metric, Value

Values = dict[str, Value]  # by the metrics' names

NULL = {datatype: Value(datatype, None) for datatype in DataType}
NONE_FOUND = Value(DataType.INT32, 0)


def values_of(result: Result, text: str) -> Values:
    """Return the values of a result, whose whole is `text`."""
    output = result.output
    values = {f"{result.model}/result": Value(DataType.STRING, text)}
    if isinstance(output, Detections):
        values |= _of_detections(output, result.model)
    elif isinstance(output, Classes):
        values |= _of_classes(output, result.model)
    return values


class ModelMetrics:
    """What one device has said of one model."""

    def __init__(self) -> None:
        self._types: dict[str, DataType] = {}  # of the metrics that are announced, by name
        self._live: Values = {}  # the last of each
        self._captured_utc_ms: dict[str, int] = {}  # when that was
        self._replayed: Values = {}  # the last that were historical, since the last birth

    def begin(self) -> None:
        """Begin anew, with a birth: its listeners may have heard nothing."""
        self._replayed.clear()

    def has_all(self, values: Values) -> bool:
        """Say whether all these metrics are announced."""
        return values.keys() <= self._types.keys()

    def announce(self, values: Values) -> None:
        """Take these metrics into all births from now on."""
        self._types |= {name: value.datatype for name, value in values.items()}

    def birth(self, utc_ms: int) -> list[Metric]:
        """Return all metrics with the last live value; null at `utc_ms` where none was said."""
        return [
            Metric(name, self._live.get(name, NULL[datatype]), self._captured_utc_ms.get(name, utc_ms))
            for name, datatype in self._types.items()
        ]

    def changes(self, values: Values, utc_ms: int, historical: bool) -> list[Metric]:
        """Return what to report of a result: the metrics whose value is another than was said last.

        Those that the result lacks are null, counts 0. Historical values are compared with historical
        ones, because they do not change what is current.
        """
        said = self._replayed if historical else self._live
        return [
            Metric(name, value, utc_ms, historical)
            for name, value in (values | self._lacking(values)).items()
            if said.get(name, NULL[value.datatype]) != value
        ]

    def remember(self, changes: list[Metric]) -> None:
        """Take note of what is said."""
        for metric in changes:
            if metric.is_historical:
                self._replayed[metric.name] = metric.value
            else:
                self._live[metric.name] = metric.value
                self._captured_utc_ms[metric.name] = metric.utc_ms

    def _lacking(self, values: Values) -> Values:
        types = {name: self._types[name] for name in self._types.keys() - values.keys()}
        return {
            name: NONE_FOUND if datatype is DataType.INT32 else NULL[datatype]
            for name, datatype in types.items()
        }


def _of_detections(output: Detections, model: str) -> Values:
    indices: list[int] = output.class_indices.tolist()
    found = Counter(label_of(output.labels, index) for index in indices)
    values = dict.fromkeys(_label_names(model, tuple(output.labels)), NONE_FOUND)
    values |= {f"{model}/labels/{label}": Value(DataType.INT32, found[label]) for label in found}
    values[f"{model}/count"] = Value(DataType.INT32, len(indices))
    values[f"{model}/score"] = _best(output.scores)
    return values


def _of_classes(output: Classes, model: str) -> Values:
    best = [label_of(output.labels, index) for index in output.class_indices[:1].tolist()]
    return {
        f"{model}/label": Value(DataType.STRING, best[0] if best else None),
        f"{model}/score": _best(output.scores),
    }


def _best(scores: Array) -> Value:
    """Return the first score; a number that is not finite is null, as it is in JSON."""
    finite = [score for score in scores[:1].tolist() if math.isfinite(score)]
    return Value(DataType.FLOAT, finite[0]) if finite else NULL[DataType.FLOAT]


@lru_cache(64)
def _label_names(model: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{model}/labels/{label}" for label in labels)
