"""One thread that drives all lanes under a load, as the scheduler drives them: acquire, submit, poll."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from edgert.execute.engine import BufferSet, Completed, Fill, Lane
from edgert.perf.load import Load
from edgert.perf.measure import Sample
from edgert.perf.options import Window
from edgert.schedule.wakes import Wakes

DRAIN_NS = 1_000_000_000  # how long requests that wait at the end are still served
LOOK_NS = 100_000_000  # at most, until the thread sees that it was asked to stop
SPIN_NS = 100_000  # a sleep may end this much late; a request that is due waits for no sleep


class Bell:
    """Wakes the one thread that waits. Any thread rings, and rings before a wait are not lost."""

    def __init__(self, wakes: Any = None) -> None:
        self._wakes: Any = Wakes() if wakes is None else wakes
        self._is_rung = False

    def ring(self) -> None:
        """Wake the thread, or keep it from falling asleep."""
        if not self._is_rung:
            self._is_rung = True
            self._wakes.wake()

    def wait(self, timeout_s: float) -> None:
        """Return after a ring or after `timeout_s`."""
        if self._wakes.wait(timeout_s):
            self._is_rung = False


class Request(msgspec.Struct, gc=False):
    """A batch on its way. Times are of the driving thread's clock."""

    lane: int
    arrived_ns: int
    submitting_ns: int
    submitted_ns: int = 0


class Driven(msgspec.Struct, frozen=True):
    """What one run gave: the requests whose batch began after the warm-up."""

    samples: tuple[Sample, ...]
    unserved_ms: tuple[float, ...]  # how long those had waited that no lane took in time
    is_interrupted: bool


class Rig(msgspec.Struct, frozen=True):
    """Lanes that are open, warm, and fed from one thread."""

    lanes: Sequence[Lane]
    next_fill: Callable[[], Fill]
    bell: Bell  # which the lanes ring when they are done
    is_driven: bool  # they do their work on the thread that submits; see `Engine.is_driven`


class Drive:
    """Runs lanes under one load, once. Of device lanes the driver is current on the calling thread."""

    def __init__(
        self,
        rig: Rig,
        load: Load,
        is_stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._rig = rig
        self._load = load
        self._is_stopping = is_stopping
        self._clock = clock
        self._flying = [0] * len(rig.lanes)  # batches in flight
        self._samples: list[Sample] = []
        self._counted_ns = 0  # batches that began earlier are warm-up, as trtexec has it

    def run(self, window: Window) -> Driven:
        """Drive until the window is over and all that was submitted is answered.

        Raises:
            EdgertError: of the first batch that failed. Others may still be in flight.
        """
        started_ns = self._clock()
        self._counted_ns = started_ns + window.warm_up_ns
        over_ns = self._counted_ns + window.duration_ns
        self._load.start(started_ns)
        while not self._is_stopping() and (self._clock() < over_ns or len(self._samples) < window.iterations):
            self._step(over_ns)
        return self._drained()

    def _drained(self) -> Driven:
        """Serve for a while what still waits, then wait for what is in flight."""
        stopped_ns = self._clock()
        self._load.stop(stopped_ns)
        over_ns = stopped_ns + DRAIN_NS
        while self._load.next_ns() is not None and self._clock() < over_ns and not self._is_stopping():
            self._step(over_ns)
        unserved_ms = tuple(self._unserved_ms())
        while any(self._flying):
            self._sleep()
            self._collect()
        return Driven(tuple(self._samples), unserved_ms, self._is_stopping())

    def _unserved_ms(self) -> Iterator[float]:
        """Take all that waits; yield how long each has waited."""
        now_ns = self._clock()
        while self._load.next_ns() is not None:
            yield (now_ns - self._load.take()) / 1e6

    def _step(self, until_ns: int) -> None:
        self._collect()
        waits = self._feed()
        self._sleep(until_ns, None if waits else self._load.next_ns())

    def _collect(self) -> None:
        """Take what the lanes have finished. Raises the error of a batch that failed."""
        for lane in self._rig.lanes:
            for completed in lane.poll():
                request = completed.tag
                assert isinstance(request, Request)  # noqa: S101 - our own invariant
                lane.release(completed.buffers)
                self._flying[request.lane] -= 1
                if completed.error is not None:
                    raise completed.error
                self._load.finish(self._clock())
                if completed.started_mono_ns >= self._counted_ns:
                    self._samples.append(sample_of(request, completed, is_driven=self._rig.is_driven))

    def _feed(self) -> bool:
        """Submit what has come, as long as a lane takes it; True if some of it waits for a lane."""
        while (due_ns := self._load.next_ns()) is not None and due_ns <= self._clock():
            taken = self._acquire()
            if taken is None:
                return True
            index, buffers = taken
            request = Request(index, self._load.take(), self._clock())
            self._rig.lanes[index].submit(buffers, self._rig.next_fill(), request)
            request.submitted_ns = self._clock()
            self._flying[index] += 1
        return False

    def _acquire(self) -> tuple[int, BufferSet] | None:
        """Return the number of the lane that has least to do, with a free buffer set of it."""
        for index in sorted(range(len(self._flying)), key=self._flying.__getitem__):
            if (buffers := self._rig.lanes[index].acquire()) is not None:
                return index, buffers
        return None

    def _sleep(self, until_ns: int = 0, next_ns: int | None = None) -> None:
        """Wait until a lane is or may be done, the request of `next_ns` is due, or it is `until_ns`."""
        now_ns = self._clock()
        looks = (
            lane.look_ns(now_ns) for lane, flying in zip(self._rig.lanes, self._flying, strict=True) if flying
        )
        dues = [now_ns + LOOK_NS, *(look for look in looks if look is not None)]
        if next_ns is not None:
            dues.append(next_ns - SPIN_NS)
        if until_ns > now_ns:
            dues.append(until_ns)
        self._rig.bell.wait(max(0.0, (min(dues) - now_ns) / 1e9))


def sample_of(request: Request, completed: Completed, *, is_driven: bool) -> Sample:
    """Return a request's times: by the device's clock where it was timed, else by the host's."""
    begun_ns, filled_ns = completed.started_mono_ns, completed.filled_mono_ns
    finished_ns, device = completed.finished_mono_ns, completed.device
    # As trtexec, without the copies of the inputs; a host lane's fill is on a thread of its own.
    enqueuing_ns = filled_ns if is_driven else request.submitting_ns
    return Sample(
        arrived_ns=request.arrived_ns,
        started_ns=begun_ns,
        finished_ns=finished_ns,
        enqueue_ms=(request.submitted_ns - enqueuing_ns) / 1e6,
        fill_ms=device.fill_ms if device else (filled_ns - begun_ns) / 1e6,
        compute_ms=device.compute_ms if device else (finished_ns - filled_ns) / 1e6,
        fetch_ms=device.fetch_ms if device else 0.0,
    )
