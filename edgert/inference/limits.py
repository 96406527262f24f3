"""The instance groups of one version, as far as a rate limiter has a say in when they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgert.models.model_config import InstanceGroup, ModelConfig, RateLimit
from edgert.pipeline.instance_groups import LanePlace
from edgert.schedule.limited_queue import limited_shares
from edgert.schedule.rate_limiter import LimitedGroup, RateLimiter
from edgert.schedule.scheduler import BatchQueue

NO_LIMIT = RateLimit()


class Limits:
    """Which lanes of a version belong to which limited group. Close it after the last batch.

    A group has resources on each of its GPUs: the lanes that it has there are limited for themselves.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        title: str,
        config: ModelConfig,
        places: Sequence[LanePlace],
        wakes: Sequence[Callable[[], None]],
    ) -> None:
        """`places` are those of all lanes, `wakes` let the schedulers look that feed them.

        Raises:
            ConfigError: a resource is not there, or means something else in another model.
        """
        self._limiter = limiter
        self._places = places
        self._groups: dict[LanePlace, LimitedGroup] = {}
        stated = config.instance_groups or (InstanceGroup(),)
        for place, wake in zip(places, wakes, strict=True):
            if place not in self._groups:
                limit = stated[place.group].rate_limit or NO_LIMIT
                group = LimitedGroup(_name(title, place), limit, place.gpu, wake)
                self._groups[place] = group
        self._added: list[LimitedGroup] = []
        try:
            for group in self._groups.values():
                limiter.add(group)
                self._added.append(group)
        except BaseException:
            self.close()
            raise

    def views(
        self, shares: Sequence[BatchQueue], numbers: Sequence[Sequence[int]]
    ) -> list[list[tuple[BatchQueue, list[int]]]]:
        """Return, for each device's share of a queue, what each group sees of it, with its lanes' numbers.

        `numbers` are those of all lanes that take from each share.
        """
        lanes = [self._by_group(own) for own in numbers]
        seen = limited_shares(
            shares, self._limiter, [[self._groups[place] for place in own] for own in lanes]
        )
        return [list(zip(views, own.values(), strict=True)) for views, own in zip(seen, lanes, strict=True)]

    def close(self) -> None:
        """Forget the groups."""
        while self._added:
            self._limiter.remove(self._added.pop())

    def _by_group(self, numbers: Sequence[int]) -> dict[LanePlace, list[int]]:
        own: dict[LanePlace, list[int]] = {}
        for number in numbers:
            own.setdefault(self._places[number], []).append(number)
        return own


def is_limited(config: ModelConfig) -> bool:
    """Say whether the configuration limits any group."""
    return any(group.rate_limit is not None for group in config.instance_groups)


def _name(title: str, place: LanePlace) -> str:
    where = f" on GPU {place.gpu}" if place.gpu else ""
    return f"{title}, instance group {place.group}{where}"
