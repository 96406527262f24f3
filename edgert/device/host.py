"""The CPU as a device: page-aligned memory of the process, and streams that do their work at once."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import ClassVar

import numpy as np

from edgert.device.driver import Event, Graph
from edgert.device.memory import Budget, Buffer, MemoryKind
from edgert.errors import DeviceError, OutOfDeviceMemoryError
from edgert.stats import LiveCount


class HostEvent:
    """A mark that is passed as soon as it is set."""

    live: ClassVar[LiveCount] = LiveCount("host event")

    def __init__(self) -> None:
        self.handle = id(self)
        self.recorded_mono_ns = 0
        self.live.opened()

    def is_done(self) -> bool:
        """Return True: a host stream has nothing waiting."""
        return True

    def synchronize(self) -> None:
        """Return at once."""

    def elapsed_ms(self, since: Event) -> float:
        """Return the time between the two records."""
        assert isinstance(since, HostEvent)  # noqa: S101 - events of one driver
        return (self.recorded_mono_ns - since.recorded_mono_ns) / 1e6

    def close(self) -> None:
        """Count it closed."""
        self.live.closed()


class HostStream:
    """Does everything on the caller's thread before it returns."""

    live: ClassVar[LiveCount] = LiveCount("host stream")

    def __init__(self) -> None:
        self.handle = id(self)
        self.live.opened()

    def copy(self, destination: int, source: int, size_bytes: int) -> None:
        """Copy bytes now."""
        ctypes.memmove(destination, source, size_bytes)

    def zero(self, destination: int, size_bytes: int) -> None:
        """Set bytes to zero now."""
        ctypes.memset(destination, 0, size_bytes)

    def record(self, event: Event) -> None:
        """Note the time."""
        assert isinstance(event, HostEvent)  # noqa: S101 - events of one driver
        event.recorded_mono_ns = time.monotonic_ns()

    def wait(self, event: Event) -> None:
        """Return at once: what is before the mark has been done."""

    def launch_kernel(
        self, kernel: object, grid: tuple[int, int, int], block: tuple[int, int, int], parameters: object
    ) -> None:
        """Raise DeviceError: the host runs no kernels."""
        raise DeviceError("The host runs no kernels.")

    def begin_capture(self) -> None:
        """Raise DeviceError: work that is done at once cannot be collected."""
        raise DeviceError("The host has no graphs.")

    def end_capture(self) -> Graph:
        """Raise DeviceError."""
        raise DeviceError("The host has no graphs.")

    def launch(self, graph: Graph) -> None:
        """Raise DeviceError."""
        raise DeviceError("The host has no graphs.")

    def synchronize(self) -> None:
        """Return at once."""

    def close(self) -> None:
        """Count it closed."""
        self.live.closed()


class HostDriver:
    """A Driver whose device is the CPU. All its memory is of one kind, whatever is asked for."""

    name = "host"

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()

    def open(self) -> None:
        """Do nothing: the CPU is always there."""

    def close(self) -> None:
        """Do nothing: buffers free themselves."""

    def current(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()

    def allocate(self, size_bytes: int, kind: MemoryKind = MemoryKind.PAGEABLE, owner: str = "") -> Buffer:
        """Return page-aligned anonymous memory; pages that are never written cost nothing."""
        self.budget.take(size_bytes, owner, kind.value)
        try:
            pages = mmap.mmap(-1, max(size_bytes, 1))
        except (OSError, OverflowError) as error:
            self.budget.give_back(size_bytes, owner, kind.value)
            raise OutOfDeviceMemoryError(f"The machine has no {size_bytes} bytes of memory left.") from error
        array = np.frombuffer(pages, np.uint8)[:size_bytes]
        give_back = partial(self.budget.give_back, owner=owner, kind=kind.value)
        return Buffer(array, give_back, address=array.ctypes.data, kind=kind)

    def open_stream(self, priority: int = 0) -> HostStream:
        """Return a stream that works at once."""
        return HostStream()

    def open_event(self, *, is_timed: bool = False) -> HostEvent:
        """Return an event."""
        return HostEvent()

    def load_kernel(self, image: bytes, name: str) -> object:
        """Raise DeviceError: the host runs no kernels."""
        raise DeviceError("The host runs no kernels.")

    def attributes(self) -> Mapping[str, str | int]:
        """Return the machine's name and its usable cores."""
        return {"machine": platform.machine(), "cores": len(os.sched_getaffinity(0))}

    def memory_info(self) -> tuple[int, int]:
        """Return what the machine has available and in all."""
        page = os.sysconf("SC_PAGE_SIZE")
        return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
