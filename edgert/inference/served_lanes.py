"""The lanes of one served version, on one device or several: opened and warmed, fed, watched, closed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack

from edgert.execute.engine import Completed, LaneOptions
from edgert.inference.device_lanes import DeviceLanes, OpenFiller
from edgert.inference.feed import Feed
from edgert.inference.fill import Part
from edgert.inference.limits import Limits
from edgert.models.model_config import ModelConfig
from edgert.pipeline.progress import Pulse
from edgert.pipeline.warm_up import WARM_UP_TIMEOUT_S
from edgert.schedule.queue_share import share_queue
from edgert.schedule.scheduler import BatchQueue


class ServedLanes:
    """Owns the lanes on each device. They take from one queue, or each from its own."""

    def __init__(self, parts: Sequence[DeviceLanes]) -> None:
        """`parts` are on devices that differ; there is at least one."""
        self._parts = parts
        self._limits: Limits | None = None
        self._feed: Feed | None = None
        self.look: Callable[[], None] = parts[0].look if len(parts) == 1 else self._look_where_awaited

    def open(self, config: ModelConfig, options: LaneOptions, open_filler: OpenFiller) -> None:
        """Open all lanes and run each once. Raises ModelError, OutOfDeviceMemoryError."""
        for part in self._parts:
            part.open(config, options, open_filler)

    def run_once(self, part: Part, hidden: Collection[str]) -> Iterator[Completed]:
        """Let every lane run a batch that nobody sent; `hidden` inputs that it lacks are zeros.

        To be called before `begin`. Raises EdgertError.
        """
        for own in self._parts:
            yield from own.run_once(part, hidden)

    def begin(self, feed: Feed, limits: Limits | None = None) -> None:
        """Let the schedulers feed the lanes, within limits that they share with other models."""
        self._limits = limits
        self._feed = feed
        has_queue_each = len(feed.queues) > 1
        for index, queue in enumerate(feed.queues):
            takers = [
                (part, [number for number in part.numbers if not has_queue_each or number == index])
                for part in self._parts
            ]
            self._add_ports(feed, index, queue, [taker for taker in takers if taker[1]])
        for part in self._parts:
            part.begin()

    def pulses(self, hang_s: float, waiting: int) -> Iterator[Pulse]:
        """Yield the pulse of each lane, and of the `waiting` requests."""
        limit_s = max(hang_s, WARM_UP_TIMEOUT_S)
        begun = 0
        for part in self._parts:
            for number, own in enumerate(part.flights(), 1):
                name = f"lane {number} of {part.title}"
                begun += own.begun
                yield Pulse(name, own.ended, is_idle=own.begun == own.ended, limit_s=limit_s)
        yield Pulse(f"the queue of {self._parts[0].title}", begun, is_idle=not waiting, limit_s=limit_s)

    def close(self) -> None:
        """Close lanes and engines. Nothing may be in flight."""
        for part in self._parts:
            part.stop()
        if self._limits is not None:
            self._limits.close()
        with ExitStack() as undo:
            for part in self._parts:
                undo.callback(part.close)

    def _add_ports(
        self, feed: Feed, index: int, queue: BatchQueue, takers: Sequence[tuple[DeviceLanes, list[int]]]
    ) -> None:
        numbers = [own for _, own in takers]
        shares = share_queue(queue, len(takers), self._look_for_the_rest)
        seen = self._limits.views(shares, numbers) if self._limits else _unlimited(shares, numbers)
        for (part, _), views in zip(takers, seen, strict=True):
            for view, own in views:
                part.add_port(feed, index, view, own)

    def _look_where_awaited(self) -> None:
        """Wake one scheduler that sleeps, else all that might not look again before a lane is done.

        All too where a limiter may refuse that one, or a request is for one lane only.
        """
        awaiting = [part for part in self._parts if part.is_awaited]
        if self._is_any_as_good:
            awaiting = next(([part] for part in awaiting if part.site.scheduler.is_idle), awaiting)
        for part in awaiting:
            part.look()

    def _look_for_the_rest(self) -> None:
        if self._feed is not None and self._feed.waiting:
            self.look()

    @property
    def _is_any_as_good(self) -> bool:
        return self._limits is None and self._feed is not None and len(self._feed.queues) == 1


def _unlimited(
    shares: Sequence[BatchQueue], numbers: Sequence[list[int]]
) -> list[list[tuple[BatchQueue, list[int]]]]:
    return [[seen] for seen in zip(shares, numbers, strict=True)]
