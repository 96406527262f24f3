"""Which batch on which lane: one thread that submits to all lanes and collects what they complete."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

from edgert.schedule.timer import wake_exactly
from edgert.schedule.turns import LongTurns
from edgert.schedule.wakes import Wakes

T = TypeVar("T")


class LanePort(Protocol):
    """What the scheduler asks of a lane; see `execute.engine.Lane`."""

    def acquire(self) -> Any | None:
        """Return a free buffer set, if the lane takes a batch now."""

    def poll(self) -> list[Any]:
        """Return what completed."""

    def look_ns(self, now_ns: int) -> int | None:
        """Return when to poll next; None if the lane wakes the scheduler itself."""

    def release(self, buffers: Any) -> None:
        """Give back a buffer set."""


class BatchQueue(Protocol):
    """What waits for one model, frames or requests; see `Batcher`, `RequestQueue`, `SequenceLane`.

    Whoever adds to it wakes the scheduler while `is_awaited`.
    """

    is_awaited: bool  # a lane would take a batch now; the scheduler writes it

    def is_due(self, now_ns: int) -> bool:
        """Say whether `take` has a batch. What has waited for too long goes without one, now."""

    def due_ns(self, now_ns: int) -> int | None:
        """Return when to look next if nothing happens before; a time that is past waits for a lane."""

    def take(self, now_ns: int) -> list[Any]:
        """Return the next batch; nothing while it is not due, or if what was due has gone meanwhile."""


class ModelPort(Protocol):
    """One loaded model: where its frames or requests wait, its lanes, and what to do before and after."""

    @property
    def batcher(self) -> BatchQueue:
        """What waits for it."""

    @property
    def lanes(self) -> Sequence[LanePort]:
        """Lanes that run this model only."""

    @property
    def is_driven(self) -> bool:
        """Only the scheduler's thread may submit to its lanes and poll them."""

    def submit(self, lane: Any, buffers: Any, waiting: list[Any]) -> None:
        """Start a batch on the lane."""

    def complete(self, lane: Any, completed: Any) -> None:
        """Hand a completed batch on."""


class Scheduler:
    """Runs batches on lanes until stopped. Wake it whenever a frame, a lane or a buffer set is new.

    `clock` returns nanoseconds; `wakes` is where the thread sleeps, so that a test can own both. `current`
    makes the device current for the thread.
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        wakes: Wakes | None = None,
        current: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.turns = 0  # of its thread: another number whenever that has looked
        self._current = current
        self._clock = clock
        self._wakes = Wakes() if wakes is None else wakes
        self._is_awake = self._is_asleep = False
        self._models: tuple[ModelPort, ...] = ()
        self._own_models: tuple[ModelPort, ...] = ()  # those that any thread may submit to
        self._lock = threading.Lock()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)

    @property
    def thread(self) -> threading.Thread:
        """The submitter thread."""
        return self._thread

    @property
    def is_idle(self) -> bool:
        """Its thread sleeps, and nobody has woken it: what is done now is seen by its next look."""
        return self._is_asleep and not self._is_awake

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Let the scheduler look again. Any thread; cheap when it is awake already."""
        if not self._is_awake:
            self._is_awake = True
            self._wakes.wake()

    def look_now(self) -> None:
        """Look on the caller's thread, or let the scheduler look if somebody is looking just now.

        A lane on the host calls it when its batch is done, so that its own next batch costs no change of
        threads. Models that only the scheduler's thread may submit to are left to that.
        """
        if not self._lock.acquire(blocking=False):
            self.wake()
            return
        try:
            due_ns = self._look(self._own_models)
        finally:
            self._lock.release()
        if due_ns is not None:
            self.wake()  # the one thread that can wait for a time has to know of it

    def add(self, model: ModelPort) -> None:
        """Schedule for one more model."""
        with self._lock:
            self._set_models((*self._models, model))
        self.wake()

    def remove(self, model: ModelPort) -> None:
        """Forget a model that has nothing waiting and nothing in flight."""
        with self._lock:
            self._set_models(tuple(kept for kept in self._models if kept is not model))

    def between_batches(self, question: Callable[[], T]) -> T:
        """Return the answer to a question asked while no batch is half submitted or half collected."""
        with self._lock:
            return question()

    def stop(self) -> None:
        """End the thread. Nothing may be in flight."""
        self._is_stopping = True
        self._wakes.wake()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        due_ns: int | None = None
        wake_exactly()
        with self._current(), LongTurns() as turns:
            while not self._is_stopping:
                self._sleep(due_ns, turns)
                with self._lock:
                    due_ns = self._look(self._models)
                self.turns += 1

    def _set_models(self, models: tuple[ModelPort, ...]) -> None:
        self._models = models
        self._own_models = tuple(model for model in models if not model.is_driven)

    def _look(self, models: Sequence[ModelPort]) -> int | None:
        """Collect from these models' lanes and feed them; return when to look again if nothing wakes us."""
        now_ns = self._clock()
        for model in models:
            self._collect(model, now_ns)
            self._feed(model, now_ns)
        return self._next_due_ns(models, now_ns)

    def _sleep(self, due_ns: int | None, turns: LongTurns) -> None:
        """Wait for a wake or until `due_ns`. If that is now, this gives no lock away."""
        timeout_s = None if due_ns is None else (due_ns - self._clock()) / 1e9
        if timeout_s is not None and timeout_s <= 0:
            self._wakes.wait(0.0)
        else:
            self._is_asleep = True
            turns.sleep(partial(self._wakes.wait, timeout_s))
            self._is_asleep = False
        self._is_awake = False  # from here on a wake means another look

    @staticmethod
    def _next_due_ns(models: Sequence[ModelPort], now_ns: int) -> int | None:
        """Return when a lane may be done or an incomplete batch has to go.

        Batches due at `now_ns` wait for a lane instead.
        """
        times_ns = []
        for model in models:
            due_ns = model.batcher.due_ns(now_ns)
            if due_ns is not None and due_ns > now_ns:
                times_ns.append(due_ns)
            if model.is_driven:
                looks_ns = [lane.look_ns(now_ns) for lane in model.lanes]
                times_ns += [look_ns for look_ns in looks_ns if look_ns is not None]
        return min(times_ns, default=None)

    @staticmethod
    def _collect(model: ModelPort, now_ns: int) -> None:
        """Take what is done from lanes that say so themselves, and from those that may be done by now."""
        for lane in model.lanes:
            look_ns = lane.look_ns(now_ns) if model.is_driven else None
            if look_ns is None or look_ns <= now_ns:
                for completed in lane.poll():
                    model.complete(lane, completed)

    def _feed(self, model: ModelPort, now_ns: int) -> None:
        """Give every lane a batch, then every lane that took one a second, while there are any due."""
        batcher = model.batcher
        batcher.is_awaited = True  # said before looking, so that a frame which comes meanwhile wakes us
        lanes = model.lanes
        while lanes:
            takers = []
            for lane in lanes:
                if not batcher.is_due(now_ns):
                    return
                if (is_fed := self._feed_lane(model, lane, now_ns)) is False:
                    return  # what was due has gone
                if is_fed:
                    takers.append(lane)
            lanes = takers
        batcher.is_awaited = False  # every lane is busy and will wake us itself

    @staticmethod
    def _feed_lane(model: ModelPort, lane: LanePort, now_ns: int) -> bool | None:
        """Submit the next batch; False if there is none any more, None if the lane takes none."""
        if (buffers := lane.acquire()) is None:
            return None
        batch = model.batcher.take(now_ns)
        if batch:
            model.submit(lane, buffers, batch)
        else:
            lane.release(buffers)
        return bool(batch)
