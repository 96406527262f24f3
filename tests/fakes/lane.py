"""A lane that works when the test says so."""

from __future__ import annotations

from collections import deque

import numpy as np

from edgert.errors import BusyError, ClosedError
from edgert.execute.host_lane import run_batch


class FakeBufferSet:
    """Answers with its own input: output `y` is input `x`."""

    def __init__(self, index):
        self.index = index
        self._arrays = {}

    def inputs(self, shapes):
        self._arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return self._arrays

    def run(self):
        """Do nothing: the output is the input."""

    def outputs(self):
        return {"y": array for array in self._arrays.values()}

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
        return [tag for _, _, tag in self._batches]

    def acquire(self):
        if self._is_closed or len(self._batches) >= self._in_flight or not self._free:
            return None
        return self._free.popleft()

    def submit(self, buffers, fill, tag):
        if self._is_closed:
            raise ClosedError("The lane was closed.")
        if len(self._batches) >= self._in_flight:
            raise BusyError("The lane is full.")
        self._batches.append((self._acquired(buffers), fill, tag))

    def finish(self):
        """Run the oldest batch in flight."""
        self._done.append(run_batch(*self._batches.popleft()))
        self._on_done()

    def poll(self):
        done, self._done = self._done, []
        return done

    def release(self, buffers):
        self._free.append(self._acquired(buffers))

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
