"""One source feeding one model: the frames that wait, and the rule by which the oldest of them go."""

from __future__ import annotations

from collections import deque

from edgert.frames.frame import Frame


class Route:
    """Frames of one source waiting for one model. The batcher that it belongs to guards it."""

    __slots__ = (
        "keeps_newest_only",
        "max_age_ns",
        "model",
        "pending",
        "priority",
        "ready_since_ns",
        "source",
    )

    def __init__(
        self,
        source: str,
        model: str,
        *,
        priority: int = 0,
        keeps_newest_only: bool = False,
        max_age_ns: int = 0,
    ) -> None:
        self.source = source
        self.model = model  # as the pipeline file writes it: `name` or `name/version`
        self.priority = priority  # higher goes first
        self.keeps_newest_only = keeps_newest_only  # a newer frame displaces one that waits
        self.max_age_ns = max_age_ns  # a frame older than this is shed; 0: never
        self.pending: deque[tuple[int, Frame]] = deque()  # with the time since which each waits
        self.ready_since_ns = 0  # since when it has waited for its turn

    def __repr__(self) -> str:
        return f"Route({self.source} to {self.model})"
