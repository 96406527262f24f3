"""How many batches of all models may run at once: scarce resources that lanes share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from edgert.errors import ConfigError
from edgert.models.model_config import RateLimit, Resource

Totals = dict[tuple[str, int | None], int]  # by name and device; None: global


class LimitedGroup:
    """Lanes of one instance group on one device. The limiter guards it."""

    def __init__(
        self, name: str, limit: RateLimit, device: int = 0, on_freed: Callable[[], None] | None = None
    ) -> None:
        """`on_freed` wakes whoever runs the group; None: the limiter's own does."""
        self.name = name
        self.on_freed = on_freed
        self.priority = max(limit.priority, 1)
        self.needs: Totals = {
            _key(resource, device): resource.count for resource in limit.resources if resource.count > 0
        }
        self.running = 0  # batches
        self.turn = 0  # its next, not before
        self.waits_since = 0  # number of the refusal since which it waits; 0: it does not wait


class RateLimiter:
    """Gives a batch all the resources that its group needs, or none: nobody waits holding some.

    A group that was refused waits. Until it was served or withdrew, groups that come after it take nothing
    that it needs: small needs do not starve a large one. Who contends for a resource has turns, a group of
    priority 2 half as many as one of priority 1, and time without contention earns none (start-time fair
    queueing). `on_freed`, of the groups that were refused, is called when they may try again, on any thread
    and without the lock.
    """

    def __init__(
        self,
        on_freed: Callable[[], None],
        given: Mapping[tuple[str, int | None], int] | None = None,
    ) -> None:
        """`given` has totals by name and device; None is every device, and the place of global ones."""
        self._on_freed = on_freed
        self._given = dict(given or {})
        self._lock = threading.Lock()
        self._groups: list[LimitedGroup] = []
        self._used: Totals = {}
        self._turns: Totals = {}  # at which the batch that took it last began
        self._totals: Totals = {}
        self._refusals = 0

    def totals(self) -> Totals:
        """Return how many of each resource there are: as given, else the most that a group needs."""
        return dict(self._totals)

    def add(self, group: LimitedGroup) -> None:
        """Limit one more group.

        Raises:
            ConfigError: fewer were given than it needs, or a resource is global here and a device's there.
        """
        with self._lock:
            self._check(group)
            self._groups.append(group)
            self._count_totals()

    def remove(self, group: LimitedGroup) -> None:
        """Forget a group of which nothing runs."""
        with self._lock:
            self._groups.remove(group)
            self._count_totals()
            waiting = self._waiting()
        self._tell(waiting)

    def may_acquire(self, group: LimitedGroup) -> bool:
        """Say whether `try_acquire` would succeed; if not, the group waits from now on."""
        with self._lock:
            return self._may(group)

    def try_acquire(self, group: LimitedGroup) -> bool:
        """Take what a batch of the group needs; if that is not free, the group waits from now on."""
        with self._lock:
            if not self._may(group):
                return False
            self._use(group, 1)
            turn = self._turn_of(group)
            self._turns.update(dict.fromkeys(group.needs, turn))
            group.turn = turn + group.priority
            group.waits_since = 0
            return True

    def release(self, group: LimitedGroup) -> None:
        """Give back what a batch of the group took."""
        with self._lock:
            self._use(group, -1)
            waiting = self._waiting()
        self._tell(waiting)

    def withdraw(self, group: LimitedGroup) -> None:
        """Hear that the group has nothing to run just now. Cheap while it does not wait."""
        if not group.waits_since:
            return
        with self._lock:
            group.waits_since = 0
            waiting = self._waiting()
        self._tell(waiting)

    def remind(self, group: LimitedGroup) -> None:
        """Wake whoever runs the group, if it waits: what it had to run may have gone elsewhere. Cheap."""
        if group.waits_since:
            self._tell([group])

    def _waiting(self) -> list[LimitedGroup]:
        return [group for group in self._groups if group.waits_since]

    def _tell(self, groups: Iterable[LimitedGroup]) -> None:
        for wake in {group.on_freed or self._on_freed for group in groups}:
            wake()

    def _may(self, group: LimitedGroup) -> bool:
        rank = (self._turn_of(group), group.waits_since or self._refusals + 1)
        is_free = all(
            self._used.get(key, 0) + count <= self._totals[key] for key, count in group.needs.items()
        )
        if is_free and not any(self._goes_before(other, group, rank) for other in self._groups):
            return True
        if not group.waits_since:
            self._refusals += 1
            group.waits_since = self._refusals
        return False

    def _goes_before(self, other: LimitedGroup, group: LimitedGroup, rank: tuple[int, int]) -> bool:
        if other is group or not other.waits_since or other.needs.keys().isdisjoint(group.needs):
            return False
        return (self._turn_of(other), other.waits_since) < rank

    def _turn_of(self, group: LimitedGroup) -> int:
        """Return when it is the group's turn: after its own last one, not before those it contends with."""
        return max([group.turn, *(self._turns.get(key, 0) for key in group.needs)])

    def _use(self, group: LimitedGroup, batches: int) -> None:
        group.running += batches
        for key, count in group.needs.items():
            self._used[key] = self._used.get(key, 0) + batches * count

    def _check(self, group: LimitedGroup) -> None:
        known = {name: device is None for name, device in self._totals}
        for (name, device), count in group.needs.items():
            if known.get(name, device is None) != (device is None):
                raise ConfigError(
                    f"Resource {name!r} of {group.name} is global in one model and by device in another."
                )
            given = self._given_total((name, device))
            if given is not None and given < count:
                raise ConfigError(
                    f"{group.name} needs {count} of resource {name!r}, but only {given} were given."
                )

    def _count_totals(self) -> None:
        most: Totals = {}
        for group in self._groups:
            for key, count in group.needs.items():
                most[key] = max(most.get(key, 0), count)
        self._totals = {}
        for key, count in most.items():
            given = self._given_total(key)
            self._totals[key] = count if given is None else given

    def _given_total(self, key: tuple[str, int | None]) -> int | None:
        return self._given.get(key, self._given.get((key[0], None)))


def _key(resource: Resource, device: int) -> tuple[str, int | None]:
    return resource.name, None if resource.is_global else device
