"""A lane on the CPU: a worker prepares and runs batch after batch, and who submits them the short ones."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import ClassVar, Protocol

from edgert.errors import BusyError, ClosedError, EdgertError, ModelError
from edgert.execute.engine import BufferSet, Completed, Fill, GraphCounts, OnRead
from edgert.stats import LiveCount

SHORT_NS = 100_000  # of a thread's own time, that a batch may take on the thread of who submits it
SHORT_BATCHES = 16  # in a row, before the next one runs there


class RunnableBufferSet(BufferSet, Protocol):
    """A buffer set that can run the engine on itself."""

    def run(self) -> None:
        """Run the engine from this set's inputs to its outputs; returns when they are complete."""

    def close(self) -> None:
        """Free the buffers."""


class HostLane:
    """A Lane (see `engine.Lane`). While one batch runs, the other buffer set can be decoded."""

    live: ClassVar[LiveCount] = LiveCount("host lane")

    def __init__(
        self,
        sets: Sequence[RunnableBufferSet],
        on_done: Callable[[], None],
        name: str,
        *,
        has_own_code: bool = True,
    ) -> None:
        """`has_own_code`: what runs may block or keep the interpreter's lock, and stays on the worker."""
        self._sets = sets
        self._free = deque(sets)
        self._taken: dict[int, RunnableBufferSet] = {}  # those that are not free, by id
        self._is_running = False
        self._has_own_code = has_own_code
        self._short_batches = 0  # the last ones, in a row
        self._is_closed = False
        self._work: SimpleQueue[tuple[RunnableBufferSet, Fill, object, OnRead] | None] = SimpleQueue()
        self._done: deque[Completed] = deque()
        self._on_done = on_done
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        self.live.opened()

    def acquire(self) -> BufferSet | None:
        """Return a free buffer set, or None while a batch runs or both sets are taken."""
        if self._is_running or self._is_closed or not self._free:
            return None
        buffers = self._free.popleft()
        self._taken[id(buffers)] = buffers
        return buffers

    def submit(self, buffers: BufferSet, fill: Fill, tag: object, on_read: OnRead = lambda: None) -> None:
        """Hand the batch to the worker. Raises BusyError, ClosedError."""
        self._work.put((self._begun(buffers), fill, tag, on_read))

    def run_short(self, buffers: BufferSet, fill: Fill, tag: object) -> Completed | None:
        """Run the batch at once, on this thread, if the last ones were short; None: it was not begun.

        What it returns is not returned by `poll`, and `on_done` is not called. Raises as `submit` does.
        """
        if self._short_batches < SHORT_BATCHES or self._has_own_code:
            return None
        try:
            return self._run(self._begun(buffers), fill, tag, _nothing)
        finally:
            self._is_running = False

    def poll(self) -> list[Completed]:
        """Return what completed since the last call."""
        done: list[Completed] = []
        while self._done:
            done.append(self._done.popleft())
        return done

    def look_ns(self, now_ns: int) -> int | None:
        """Return None: the worker says when it is done."""
        return None

    def batch_sizes(self) -> tuple[int, ...]:
        """Return nothing: every batch runs at its own size."""
        return ()

    def graph_counts(self) -> GraphCounts:
        """Return zeros: the host has no graphs."""
        return GraphCounts()

    def release(self, buffers: BufferSet) -> None:
        """Make the buffer set free again. Raises BusyError."""
        own = self._own(buffers)
        del self._taken[id(own)]
        was_lacking = not self._free
        self._free.append(own)
        if was_lacking and not self._is_running:  # it may have been idle for want of a buffer set
            self._on_done()

    def close(self) -> None:
        """Finish the batch in flight, end the worker, free the buffers."""
        if self._is_closed:
            return
        self._is_closed = True
        self._work.put(None)
        self._thread.join()
        for buffers in self._sets:
            buffers.close()
        self.live.closed()

    def _begun(self, buffers: BufferSet) -> RunnableBufferSet:
        if self._is_closed:
            raise ClosedError("The lane was closed.")
        if self._is_running:
            raise BusyError("The lane runs one batch at a time.")
        own = self._own(buffers)
        self._is_running = True
        return own

    def _run(self, own: RunnableBufferSet, fill: Fill, tag: object, on_read: OnRead) -> Completed:
        """Run a batch. What it costs is this thread's time: others may have had the core meanwhile."""
        began_ns = time.thread_time_ns()
        try:
            return run_batch(own, fill, tag, on_read)  # a name for it would keep a failed one alive
        finally:
            is_short = time.thread_time_ns() - began_ns < SHORT_NS
            self._short_batches = self._short_batches + 1 if is_short else 0

    def _own(self, buffers: BufferSet) -> RunnableBufferSet:
        taken = self._taken.get(id(buffers))
        if taken is not None:
            return taken
        if any(own is buffers for own in self._sets):
            raise BusyError(f"Buffer set {buffers.index} is free: it was released before, or never acquired.")
        raise BusyError("The buffer set belongs to another lane.")

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            completed = self._run(*work)
            del work  # the tag holds frames; do not keep them while waiting
            self._done.append(completed)
            self._is_running = False
            del completed
            self._on_done()


def run_batch(buffers: RunnableBufferSet, fill: Fill, tag: object, on_read: OnRead) -> Completed:
    """Fill and run; any exception becomes the batch's error, so that the thread lives on."""
    started = filled = time.monotonic_ns()
    error: EdgertError | None = None
    try:
        try:
            fill(buffers)
        finally:
            on_read()
        filled = time.monotonic_ns()
        buffers.run()
    except EdgertError as known:
        error = known
    except Exception as unknown:  # noqa: BLE001 - whatever an engine raises is the fate of this batch only
        error = ModelError(f"The batch failed: {unknown}")
        error.__cause__ = unknown
    try:
        return Completed(buffers, tag, error, started, filled, time.monotonic_ns())
    finally:
        del error  # its traceback leads back here: together they would keep the batch's frames alive


def _nothing() -> None:
    """What is done once the inputs are read, unless somebody waits for that."""
