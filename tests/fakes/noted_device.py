"""The host as a device that notes what its streams are asked for, and has to be current as CUDA has."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import NamedTuple

from edgert.device.host import HostDriver, HostEvent, HostStream
from edgert.device.opened import OpenDevice
from edgert.device.placement import plan_memory
from edgert.errors import DeviceError


class Asked(NamedTuple):
    """One call of a stream."""

    verb: str  # copy, zero, record, wait, begin, end, launch
    stream: HostStream
    what: object  # the event or graph, or how many bytes


class NotedDriver(HostDriver):
    """Notes every call of its streams in `asked`; with `has_graphs` they can capture.

    `failures` are raised, once each, by the next call of the verb that they stand under.
    """

    def __init__(self, budget=None, *, has_graphs=False, **attributes):
        super().__init__(budget)
        self.asked = []
        self.failures = {}
        self.has_graphs = has_graphs
        self.open_graphs = 0
        self._attributes = attributes
        self._own = threading.local()

    @property
    def is_current(self):
        """Whether it is current for the calling thread."""
        return getattr(self._own, "depth", 0) > 0

    @contextmanager
    def current(self):
        self._own.depth = getattr(self._own, "depth", 0) + 1
        try:
            yield
        finally:
            self._own.depth -= 1

    def attributes(self):
        return {**super().attributes(), **self._attributes}

    def open_stream(self, priority=0):
        return NotedStream(self)

    def open_event(self, *, is_timed=False):
        return NotedEvent(self)

    def demand_current(self):
        """Fail where CUDA would find no context."""
        assert self.is_current, "The device is not current for this thread."

    def note(self, verb, stream, what=None):
        """Note a call, or let it fail."""
        self.demand_current()
        if verb in self.failures:
            raise self.failures.pop(verb)
        self.asked.append(Asked(verb, stream, what))

    def verbs(self, stream=None):
        """Return what was asked for, of one stream or of all."""
        return [asked.verb for asked in self.asked if stream in (None, asked.stream)]


class NotedStream(HostStream):
    """Does its work at once, and notes it."""

    def __init__(self, driver):
        super().__init__()
        self._driver = driver

    def copy(self, destination, source, size_bytes):
        self._driver.note("copy", self, size_bytes)
        super().copy(destination, source, size_bytes)

    def zero(self, destination, size_bytes):
        self._driver.note("zero", self, size_bytes)
        super().zero(destination, size_bytes)

    def record(self, event):
        self._driver.note("record", self, event)
        super().record(event)

    def wait(self, event):
        self._driver.note("wait", self, event)
        super().wait(event)

    def begin_capture(self):
        if not self._driver.has_graphs:
            raise DeviceError("This device has no graphs.")
        self._driver.note("begin", self)

    def end_capture(self):
        graph = NotedGraph(self._driver)
        self._driver.note("end", self, graph)
        self._driver.open_graphs += 1
        return graph

    def launch(self, graph):
        self._driver.note("launch", self, graph)


class NotedEvent(HostEvent):
    """A mark of a device that has to be current."""

    def __init__(self, driver):
        super().__init__()
        self._driver = driver

    def close(self):
        self._driver.demand_current()
        super().close()


class NotedGraph:
    """What was captured; it does nothing when it is launched."""

    def __init__(self, driver):
        self._driver = driver

    def close(self):
        self._driver.open_graphs -= 1


def open_noted(driver=None, **memory):
    """Return an OpenDevice over a NotedDriver; `memory` changes fields of its plan."""
    driver = driver or NotedDriver()
    opened = OpenDevice(driver, plan_memory(driver.attributes()))
    opened.memory = type(opened.memory)(
        **{name: memory.get(name, getattr(opened.memory, name)) for name in opened.memory.__struct_fields__}
    )
    return opened
