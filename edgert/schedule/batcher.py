"""Which frames go together: the waiting frames of all routes to one model, batched in turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable

import msgspec

from edgert.frames.frame import Frame
from edgert.schedule.route import Route

# A route that has waited this long for its turn goes before higher priorities: priority must not starve.
STARVING_NS = 500_000_000

Waiting = tuple[Route, Frame]
Drop = Callable[[Route, Frame, str], None]


class BatchPolicy(msgspec.Struct, frozen=True):
    """How a model wants its batches, as config.pbtxt says it."""

    max_batch: int = 1
    preferred: tuple[int, ...] = ()  # sizes worth sending at once
    delay_ns: int = 0  # how long an incomplete batch may wait for more frames


class Batcher:
    """Capture threads offer frames, one scheduler takes batches.

    Routes take turns, a frame a turn, higher priorities first; but while a route starves, every second
    turn goes to the one that has waited longest. Frames with different keys (`key_of`: the tensor
    shape they will have) never share a batch. Every frame that is not taken goes to `on_drop` with its
    reason, outside the lock. A frame that takes the place of a dropped one also takes over its turn and
    the time it waited: else a fast source could put its own turn off for ever.
    """

    def __init__(
        self, policy: BatchPolicy, on_drop: Drop, key_of: Callable[[Frame], Hashable] = lambda _: None
    ) -> None:
        self._policy = policy
        self._on_drop = on_drop
        self._key_of = key_of
        self._turns: dict[int, deque[Route]] = {}
        self._lock = threading.Lock()
        self._waiting = 0
        self._gave_way = False  # the last turn was a starving route's, before a higher priority
        self._is_open = True
        self._is_hurried = False
        self.is_awaited = True  # a lane would take a frame now; the scheduler writes it

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return self._waiting

    def offer(self, route: Route, frame: Frame, now_ns: int) -> bool:
        """Let a frame wait on its route; False, without effect, once the batcher is closed."""
        with self._lock:
            if not self._is_open:
                return False
            displaced = self._enqueue(route, frame, now_ns)
        if displaced is not None:
            self._on_drop(route, displaced, "superseded")
        return True

    def close(self) -> None:
        """Take no more frames; those that wait can be taken at once."""
        with self._lock:
            self._is_open = False
            self._is_hurried = True

    def hurry(self) -> None:
        """Let incomplete batches go without delay from now on: nothing more will come to fill them."""
        with self._lock:
            self._is_hurried = True

    def take(self, now_ns: int) -> list[Waiting]:
        """Return the next batch, or nothing while it is not due."""
        batch: list[Waiting] = []
        stale: list[Waiting] = []
        with self._lock:
            size = self._due_size(now_ns)
            while len(batch) < size and self._waiting:
                route, gives_way = self._next_route(now_ns)
                if self._is_stale(route, now_ns):
                    stale.append((route, self._pop(route, now_ns, keeps_turn=True)))
                elif batch and self._key_of(route.pending[0][1]) != self._key_of(batch[0][1]):
                    break
                else:
                    self._gave_way = gives_way
                    batch.append((route, self._pop(route, now_ns)))
        for route, frame in stale:
            self._on_drop(route, frame, "stale")
        return batch

    def is_due(self, now_ns: int) -> bool:
        """Say whether `take` has a batch."""
        with self._lock:
            return self._due_size(now_ns) > 0

    def due_ns(self, now_ns: int = 0) -> int | None:
        """Return when the frames that wait have to go (0: at once); None if none waits."""
        with self._lock:
            return self._due_ns() if self._waiting else None

    def drop_oldest(self, route: Route, reason: str, now_ns: int) -> bool:
        """Drop the oldest frame that waits on `route`; False if none does."""
        with self._lock:
            frame = self._pop(route, now_ns, keeps_turn=True) if route.pending else None
        if frame is not None:
            self._on_drop(route, frame, reason)
        return frame is not None

    def drop_all(self, reason: str) -> None:
        """Drop every frame that waits."""
        with self._lock:
            routes = [route for turns in self._turns.values() for route in turns]
            dropped = [(route, frame) for route in routes for _, frame in route.pending]
            for route in routes:
                route.pending.clear()
            self._turns.clear()
            self._waiting = 0
        for route, frame in dropped:
            self._on_drop(route, frame, reason)

    def _enqueue(self, route: Route, frame: Frame, now_ns: int) -> Frame | None:
        if route.pending and route.keeps_newest_only:
            since_ns, displaced = route.pending.popleft()
            route.pending.append((since_ns, frame))
            return displaced
        if not route.pending:
            route.ready_since_ns = now_ns
            self._turns.setdefault(-route.priority, deque()).append(route)
        route.pending.append((now_ns, frame))
        self._waiting += 1
        return None

    def _due_size(self, now_ns: int) -> int:
        """Return how many frames go now: a full or preferred batch at once, the rest when time is up."""
        available = min(self._waiting, self._policy.max_batch)
        if available == self._policy.max_batch:
            return available
        preferred = max((size for size in self._policy.preferred if size <= available), default=0)
        if preferred:
            return preferred
        return available if available and now_ns >= self._due_ns() else 0

    def _due_ns(self) -> int:
        if not self._policy.delay_ns or self._is_hurried:
            return 0
        since_ns = min(route.pending[0][0] for turns in self._turns.values() for route in turns)
        return since_ns + self._policy.delay_ns

    def _next_route(self, now_ns: int) -> tuple[Route, bool]:
        """Return the route whose turn it is, and whether a higher priority gives way to it."""
        heads = [turns[0] for _, turns in sorted(self._turns.items()) if turns]
        longest = min(heads, key=lambda route: route.ready_since_ns)
        starves = now_ns - longest.ready_since_ns > STARVING_NS
        if starves and not self._gave_way:
            return longest, longest is not heads[0]
        return heads[0], False

    @staticmethod
    def _is_stale(route: Route, now_ns: int) -> bool:
        return bool(route.max_age_ns) and now_ns - route.pending[0][1].captured_mono_ns > route.max_age_ns

    def _pop(self, route: Route, now_ns: int, *, keeps_turn: bool = False) -> Frame:
        since_ns, frame = route.pending.popleft()
        self._waiting -= 1
        if keeps_turn and route.pending:
            route.pending[0] = (since_ns, route.pending[0][1])
            return frame
        turns = self._turns[-route.priority]
        turns.remove(route)
        if route.pending:
            route.ready_since_ns = now_ns
            turns.append(route)
        return frame
