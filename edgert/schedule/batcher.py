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

    Routes take turns, a frame a turn, higher priorities first. Frames with different keys
    (`key_of`: the tensor shape they will have) never share a batch. Every frame that is not taken
    goes to `on_drop` with its reason, outside the lock.
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
        self._oldest_ns = 0
        self._is_open = True

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
        """Take no more frames; those that wait can still be taken."""
        with self._lock:
            self._is_open = False

    def take(self, now_ns: int) -> list[Waiting]:
        """Return the next batch, or nothing while it is not due."""
        batch: list[Waiting] = []
        stale: list[Waiting] = []
        with self._lock:
            size = self._due_size(now_ns)
            while len(batch) < size and self._waiting:
                route = self._next_route(now_ns)
                if self._is_stale(route, now_ns):
                    stale.append((route, self._pop(route, now_ns)))
                elif batch and self._key_of(route.pending[0]) != self._key_of(batch[0][1]):
                    break
                else:
                    batch.append((route, self._pop(route, now_ns)))
        for route, frame in stale:
            self._on_drop(route, frame, "stale")
        return batch

    def due_ns(self) -> int | None:
        """Return when the frames that wait have to go; None if none waits."""
        with self._lock:
            return self._oldest_ns + self._policy.delay_ns if self._waiting else None

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
            dropped = [(route, frame) for route in routes for frame in route.pending]
            for route in routes:
                route.pending.clear()
            self._turns.clear()
            self._waiting = 0
        for route, frame in dropped:
            self._on_drop(route, frame, reason)

    def _enqueue(self, route: Route, frame: Frame, now_ns: int) -> Frame | None:
        if not self._waiting:
            self._oldest_ns = now_ns
        if not route.pending:
            route.ready_since_ns = now_ns
            self._turns.setdefault(-route.priority, deque()).append(route)
        displaced = None
        if route.keeps_newest_only and route.pending:
            displaced = route.pending.popleft()
            self._waiting -= 1
        route.pending.append(frame)
        self._waiting += 1
        return displaced

    def _due_size(self, now_ns: int) -> int:
        """Return how many frames go now: a full or preferred batch at once, the rest when time is up."""
        available = min(self._waiting, self._policy.max_batch)
        if available == self._policy.max_batch:
            return available
        preferred = max((size for size in self._policy.preferred if size <= available), default=0)
        if preferred:
            return preferred
        return available if now_ns >= self._oldest_ns + self._policy.delay_ns else 0

    def _next_route(self, now_ns: int) -> Route:
        """Return the route whose turn it is, best priority first unless another starves."""
        levels = sorted(level for level, turns in self._turns.items() if turns)
        for level in levels[1:]:
            if now_ns - self._turns[level][0].ready_since_ns > STARVING_NS:
                return self._turns[level][0]
        return self._turns[levels[0]][0]

    @staticmethod
    def _is_stale(route: Route, now_ns: int) -> bool:
        return bool(route.max_age_ns) and now_ns - route.pending[0].captured_mono_ns > route.max_age_ns

    def _pop(self, route: Route, now_ns: int, *, keeps_turn: bool = False) -> Frame:
        frame = route.pending.popleft()
        self._waiting -= 1
        turns = self._turns[-route.priority]
        if not (keeps_turn and route.pending):
            turns.remove(route)
            if route.pending:
                route.ready_since_ns = now_ns
                turns.append(route)
        return frame
