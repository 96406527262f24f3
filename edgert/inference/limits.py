"""The instance groups of one version, as far as a rate limiter has a say in when they run."""

from __future__ import annotations

from collections.abc import Sequence

from edgert.execute.engine import Lane
from edgert.models.model_config import InstanceGroup, ModelConfig, RateLimit
from edgert.schedule.limited_queue import limited
from edgert.schedule.rate_limiter import LimitedGroup, RateLimiter
from edgert.schedule.scheduler import BatchQueue

NO_LIMIT = RateLimit()


class Limits:
    """Which lanes of a version belong to which limited group. Close it after the last batch."""

    def __init__(self, limiter: RateLimiter, title: str, config: ModelConfig) -> None:
        """Raises ConfigError: a resource is not there, or means something else in another model."""
        self._limiter = limiter
        stated = config.instance_groups or (InstanceGroup(),)
        self._counts = [group.count for group in stated]
        self._groups = [
            LimitedGroup(f"{title}, instance group {number}", group.rate_limit or NO_LIMIT)
            for number, group in enumerate(stated)
        ]
        self._added: list[LimitedGroup] = []
        for group in self._groups:
            limiter.add(group)
            self._added.append(group)

    def views(
        self, queue: BatchQueue, lanes: Sequence[Lane], first: int = 0
    ) -> list[tuple[BatchQueue, list[Lane]]]:
        """Return what each group sees of a queue, with its lanes, which begin with number `first`."""
        own: dict[int, list[Lane]] = {}
        for number, lane in enumerate(lanes, first):
            own.setdefault(self._group_of(number), []).append(lane)
        views = limited(queue, self._limiter, [self._groups[index] for index in own])
        return list(zip(views, own.values(), strict=True))

    def close(self) -> None:
        """Forget the groups."""
        while self._added:
            self._limiter.remove(self._added.pop())

    def _group_of(self, lane: int) -> int:
        """Return the group of a lane; lanes beyond what the groups count belong to the last."""
        end = 0
        for index, count in enumerate(self._counts):
            end += count
            if lane < end:
                return index
        return len(self._counts) - 1


def is_limited(config: ModelConfig) -> bool:
    """Say whether the configuration limits any group."""
    return any(group.rate_limit is not None for group in config.instance_groups)
