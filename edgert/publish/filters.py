"""What of all results a sink publishes: the `[sinks.<name>.filter]` table."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from edgert.config import Options
from edgert.frames.result import Array, Classes, Detections, Output, Result, Tensors, label_of
from edgert.stats import Tally

Names = Annotated[tuple[str, ...], Meta(min_length=1)]
Key = tuple[str, str]  # source and model
Labels = frozenset[tuple[str, int]]  # each with how often it was found

NS_PER_S = 1_000_000_000
JITTER_NS = 10_000_000  # that a camera's frames may come early by, at most a quarter of the interval


class FilterOptions(Options, frozen=True, kw_only=True):
    """`[sinks.<name>.filter]`: its presence leaves results out, or parts of them. They are counted."""

    models: Names | None = None  # only results of these; None: of all
    sources: Names | None = None  # only results for these; None: for all
    labels: Names | None = None  # only these detections and classes; an index is its own label without a list
    score_min: Annotated[float, Meta(ge=0, le=1)] = 0.0  # only detections and classes with this score or more
    frames_per_s: Annotated[float, Meta(ge=0, le=1000)] = 0.0  # of each source and model; 0: all
    skip_empty: bool = False  # leave out results without detections or classes; tensors are never empty
    # Leave out results whose labels, and how many there are of each, are those that were published last for
    # that source and model; but not for longer than heartbeat_s (0: for ever). Tensors always differ.
    on_change: bool = False
    heartbeat_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0

    def __post_init__(self) -> None:
        if self.heartbeat_s and not self.on_change:
            raise ValueError("heartbeat_s needs on_change: without it every result is published")


class ResultFilter:
    """Chooses results, and what of each. One thread at a time may use it; any may read its counts.

    Time is that of the captures, by the monotonic clock.
    """

    def __init__(self, options: FilterOptions) -> None:
        self._options = options
        self._models = _allowed(options.models)
        self._sources = _allowed(options.sources)
        self._labels = _allowed(options.labels)
        self._pace = _Pace(options.frames_per_s)
        self._changes = _Changes(options.heartbeat_s)
        self.left_out = Tally()  # results, by the first reason: model, source, rate, empty, unchanged
        self.trimmed = Tally()  # detections and classes, by the first reason: label, score

    def __call__(self, result: Result) -> Result | None:
        """Return what is published of a result, in the result's order; None: nothing.

        Returns the result itself if all of it is, else a new one with copies of the arrays.
        """
        reason = self._refusal(result)
        if reason is None:
            result = self._trim(result)
            reason = self._refusal_of_output(result)
        if reason is not None:
            self.left_out.add(reason)
            return None
        self._pace.note(result)
        return result

    def _refusal(self, result: Result) -> str | None:
        """Return why nothing is published, whatever the output is."""
        if self._models is not None and result.model not in self._models:
            return "model"
        if self._sources is not None and result.source not in self._sources:
            return "source"
        return None if self._pace.is_due(result) else "rate"

    def _refusal_of_output(self, result: Result) -> str | None:
        """Return why an output is not published; if it is, the next is compared with it."""
        output = result.output
        if isinstance(output, Tensors):
            return None
        if self._options.skip_empty and not len(output.scores):
            return "empty"
        if self._options.on_change and not self._changes.note(result, output):
            return "unchanged"
        return None

    def _trim(self, result: Result) -> Result:
        output = result.output
        if isinstance(output, Tensors) or (self._labels is None and not self._options.score_min):
            return result
        stays = self._stays(output)
        return result if stays.all() else msgspec.structs.replace(result, output=_masked(output, stays))

    def _stays(self, output: Detections | Classes) -> Array:
        """Return which detections or classes stay, (n,) bool, and count the others."""
        labelled = scored = np.ones(len(output.scores), bool)
        if self._labels is not None:
            labelled = scored = _has_label(output, self._labels)
        if self._options.score_min:
            scored = labelled & (output.scores >= self._options.score_min)  # not a NaN
        left = np.count_nonzero(labelled)
        self._count("label", len(labelled) - left)
        self._count("score", left - np.count_nonzero(scored))
        return scored

    def _count(self, reason: str, amount: int) -> None:
        if amount:
            self.trimmed.add(reason, amount)


class _Pace:
    """Lets so many results a second pass, of each source and model."""

    def __init__(self, per_s: float) -> None:
        self._interval_ns = int(NS_PER_S / per_s) if per_s else 0
        self._early_ns = min(self._interval_ns // 4, JITTER_NS)
        self._due_ns: dict[Key, int] = {}

    def is_due(self, result: Result) -> bool:
        """Say whether a result may pass."""
        if not self._interval_ns:
            return True
        due_ns = self._due_ns.get(_key(result))
        return due_ns is None or result.captured_mono_ns >= due_ns - self._early_ns

    def note(self, result: Result) -> None:
        """Note that a result passes.

        The next is due an interval after this one was, not after it came: else a rate that does not divide
        the camera's would become the next lower one that does. A pause is not made up for.
        """
        if not self._interval_ns:
            return
        key, captured_ns = _key(result), result.captured_mono_ns
        due_ns = self._due_ns.get(key, captured_ns)
        is_late = captured_ns - due_ns >= self._interval_ns
        self._due_ns[key] = (captured_ns if is_late else due_ns) + self._interval_ns


class _Changes:
    """Remembers which labels were published last, and when, of each source and model."""

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_ns = int(heartbeat_s * NS_PER_S)
        self._last: dict[Key, tuple[Labels, int]] = {}

    def note(self, result: Result, output: Detections | Classes) -> bool:
        """Say whether a result differs from the last, or its heartbeat is due; then it is the last."""
        key, labels = _key(result), _labels(output)
        last_labels, last_ns = self._last.get(key, (None, 0))
        if labels == last_labels and not self._is_due(last_ns, result.captured_mono_ns):
            return False
        self._last[key] = labels, result.captured_mono_ns
        return True

    def _is_due(self, last_ns: int, now_ns: int) -> bool:
        return bool(self._heartbeat_ns) and now_ns - last_ns >= self._heartbeat_ns


def _allowed(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _key(result: Result) -> Key:
    return result.source, result.model


def _has_label(output: Detections | Classes, wanted: frozenset[str]) -> Array:
    present = set(output.class_indices.tolist())
    return np.isin(output.class_indices, [i for i in present if label_of(output.labels, i) in wanted])


def _labels(output: Detections | Classes) -> Labels:
    counts: Counter[str] = Counter()
    for index, count in Counter(output.class_indices.tolist()).items():
        counts[label_of(output.labels, index)] += count
    return frozenset(counts.items())


def _masked(output: Detections | Classes, stays: Array) -> Output:
    scores, indices = output.scores[stays], output.class_indices[stays]
    if isinstance(output, Classes):
        return Classes(scores, indices, output.labels)
    landmarks = None if output.landmarks_xy_px is None else output.landmarks_xy_px[stays]
    return Detections(output.boxes_xyxy_px[stays], scores, indices, output.labels, landmarks)
