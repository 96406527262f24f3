"""One batch's inputs and outputs on a device, and the marks that say how far it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from edgert.device.driver import Driver, Event, Stream
from edgert.errors import EdgertError, ModelError
from edgert.execute.bindings import Binding, BindingCache, Copy, Fetched, Shape
from edgert.execute.engine import DeviceTensor, DeviceTimes, OnRead
from edgert.execute.runner import Runner
from edgert.frames.result import Array


class DeviceBufferSet:
    """Inputs and outputs of one batch. See `engine.BufferSet`."""

    def __init__(self, index: int, cache: BindingCache, runner: Runner, stream: Stream, marks: Marks) -> None:
        self.index = index
        self.stream = stream
        self.cache = cache
        self.marks = marks
        self.is_free = True
        self.binding: Binding | None = None
        self.fetched: Fetched = None
        self.onward: Sequence[Copy] = ()  # on the device, once the outputs are there
        self._runner = runner

    def inputs(self, shapes: Mapping[str, Shape]) -> Mapping[str, DeviceTensor]:
        """Return input tensors for at least as large a batch; places beyond it are computed and not read."""
        binding = self.binding = self._runner.bind(self.cache, shapes)
        return binding.inputs

    def begin(self) -> None:
        """Forget the batch before."""
        self.binding = self.fetched = None
        self.onward = ()

    def left(self) -> Mapping[str, DeviceTensor]:
        """Return where the engine will leave the outputs; they may be more rows than were asked for."""
        return self._bound().left

    def leave(self, onward: Sequence[Copy], fetched: Fetched) -> None:
        """Let the outputs be copied on the device too, and only those that are named be fetched.

        To be called by `fill`, after `inputs`. The copies have been done when the batch is.
        """
        self.onward = onward
        if self.cache.memory.is_staged:
            self.fetched = fetched

    def outputs(self) -> Mapping[str, Array]:
        """Return the outputs that were fetched; those of places that were not filled mean nothing."""
        outputs, fetched = self._bound().outputs, self.fetched
        return outputs if fetched is None else {name: outputs[name] for name in outputs if name in fetched}

    def close(self) -> None:
        """Free everything."""
        self.begin()
        self.cache.close()
        self.marks.close()

    def _bound(self) -> Binding:
        if self.binding is None:
            raise ModelError("The batch has no outputs: it did not run.")
        return self.binding


class Marks:
    """The events of one buffer set. `begun` and `computed` are set only where batches are timed."""

    def __init__(self, driver: Driver, *, is_timed: bool) -> None:
        with ExitStack() as undo:
            self._events: list[Event] = []
            for _ in range(4):
                self._events.append(driver.open_event(is_timed=is_timed))
                undo.callback(self._events[-1].close)
            undo.pop_all()
        self.begun, self.filled, self.computed, self.done = self._events

    def times(self) -> DeviceTimes:
        """Return how long a batch took that is done."""
        return DeviceTimes(
            self.filled.elapsed_ms(self.begun),
            self.computed.elapsed_ms(self.filled),
            self.done.elapsed_ms(self.computed),
        )

    def close(self) -> None:
        """Free the events."""
        for event in self._events:
            event.close()


class Flight(msgspec.Struct, gc=False, eq=False):
    """A batch between submit and completion."""

    buffers: DeviceBufferSet
    tag: object
    on_read: OnRead
    started_mono_ns: int
    filled_mono_ns: int
    submitted_mono_ns: int  # all of it was enqueued
    look_ns: int  # when to ask whether it is done
    read_look_ns: int  # when to ask whether its slots have been read
    error: EdgertError | None
    is_read: bool = False
    looks: int = 0  # that found it not done
