"""A lane that works when the test says so, and a bell for lanes that have a thread."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np

from edgert.errors import BusyError, ClosedError
from edgert.execute.engine import GraphCounts
from edgert.execute.host_lane import run_batch

TIMEOUT_S = 10.0  # real seconds before a test that waits for a lane gives up


class Bell:
    """An `on_done` that a test can wait for."""

    def __init__(self):
        self._rings = threading.Semaphore(0)

    def __call__(self):
        self._rings.release()

    def wait(self):
        """Wait for one more ring."""
        assert self._rings.acquire(timeout=TIMEOUT_S), "The lane did not call on_done."

    def silence(self):
        """Forget the rings so far."""
        while self._rings.acquire(blocking=False):
            pass

    def next_from(self, lane):
        """Return the one batch that completes next on `lane`."""
        while not (done := lane.poll()):
            self.wait()
        [completed] = done
        return completed


class FakeBufferSet:
    """Answers with its own input: output `y` is input `x`."""

    stream = None

    def __init__(self, index):
        self.index = index
        self._arrays = {}

    def inputs(self, shapes):
        self._arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return self._arrays

    def run(self):
        """Do nothing: the output is the input."""

    def outputs(self):
        [array] = self._arrays.values()
        return {"y": array}

    def close(self):
        self._arrays = {}


class FakeLane:
    """A Lane whose batches run when the test calls `finish`, oldest first, on the test's thread.

    It takes `in_flight` batches at once, as a GPU lane does; `running` has their tags, oldest first.
    """

    def __init__(self, on_done=lambda: None, *, sets=2, in_flight=1):
        self._sets = [FakeBufferSet(index) for index in range(sets)]
        self._free = deque(self._sets)
        self._batches = deque()
        self._done = []
        self._in_flight = in_flight
        self._is_closed = False
        self._on_done = on_done

    @property
    def running(self):
        return [tag for _, _, tag, _ in self._batches]

    def acquire(self):
        if self._is_closed or len(self._batches) >= self._in_flight or not self._free:
            return None
        return self._free.popleft()

    def look_ns(self, now_ns):
        return None

    def batch_sizes(self):
        return ()

    def graph_counts(self):
        return GraphCounts()

    def submit(self, buffers, fill, tag, on_read=lambda: None):
        if self._is_closed:
            raise ClosedError("The lane was closed.")
        if len(self._batches) >= self._in_flight:
            raise BusyError("The lane is full.")
        self._batches.append((self._acquired(buffers), fill, tag, on_read))

    def finish(self):
        """Run the oldest batch in flight."""
        self._done.append(run_batch(*self._batches.popleft()))
        self._on_done()

    def poll(self):
        done, self._done = self._done, []
        return done

    def release(self, buffers):
        self._free.append(self._acquired(buffers))
        if len(self._batches) < self._in_flight:
            self._on_done()

    def close(self):
        self._is_closed = True
        while self._batches:
            self.finish()
        for own in self._sets:
            own.close()

    def _acquired(self, buffers):
        if not any(own is buffers for own in self._sets) or buffers in self._free:
            raise BusyError(f"Buffer set {buffers.index} was not acquired from this lane.")
        return buffers
