"""What edgert asks of a device. `host` and `cuda` pass the same contract tests.

Addresses and handles are integers, so that TensorRT, kernels and copies can be given them as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from edgert.device.memory import Budget, Buffer, MemoryKind


class Event(Protocol):
    """A mark on a stream."""

    handle: int

    def is_done(self) -> bool:
        """Say whether everything before the mark has finished; True if it was never recorded.

        Raises:
            DeviceLostError: the device no longer answers.
        """

    def synchronize(self) -> None:
        """Wait until everything before the mark has finished. Raises DeviceLostError."""

    def elapsed_ms(self, since: Event) -> float:
        """Return the device's time between two marks that are done. Both were opened timed."""

    def close(self) -> None:
        """Free the event."""


class Graph(Protocol):
    """Work of a stream that was captured, to be launched as a whole."""

    def close(self) -> None:
        """Free the graph. It must not be running."""


class Stream(Protocol):
    """Work that the device does in order. One thread at a time, with the driver `current` there.

    Nothing here waits for the device but `synchronize`. Memory that is copied from or to must stay until
    the copy is done.
    """

    handle: int

    def copy(self, destination: int, source: int, size_bytes: int) -> None:
        """Copy between any two addresses that are the device's, pinned or managed."""

    def zero(self, destination: int, size_bytes: int) -> None:
        """Set bytes to zero."""

    def record(self, event: Event) -> None:
        """Set the mark behind everything enqueued so far."""

    def wait(self, event: Event) -> None:
        """Let what is enqueued from now on wait for the mark."""

    def launch_kernel(
        self, kernel: object, grid: tuple[int, int, int], block: tuple[int, int, int], parameters: object
    ) -> None:
        """Run a kernel; `parameters` as `Driver.load_kernel` describes."""

    def begin_capture(self) -> None:
        """Collect what is enqueued from now on instead of running it. Raises DeviceError."""

    def end_capture(self) -> Graph:
        """Return what was collected, ready to launch. Raises DeviceError if it cannot be a graph."""

    def launch(self, graph: Graph) -> None:
        """Run a graph."""

    def synchronize(self) -> None:
        """Wait until everything enqueued has finished. Raises DeviceLostError."""

    def close(self) -> None:
        """Free the stream; what is enqueued still runs."""


class Driver(Protocol):
    """One device. Its methods may be called from any thread, between `open` and `close`."""

    name: str
    budget: Budget

    def open(self) -> None:
        """Take the device. Raises DeviceError."""

    def close(self) -> None:
        """Give the device back. Everything opened or allocated must have been closed or freed before."""

    def current(self) -> AbstractContextManager[None]:
        """Make the device current for the calling thread. Needed around streams, events and engines."""

    def allocate(self, size_bytes: int, kind: MemoryKind = MemoryKind.PAGEABLE, owner: str = "") -> Buffer:
        """Return a buffer that the caller frees. Counted for `owner`.

        Raises:
            OutOfDeviceMemoryError: neither device nor budget has `size_bytes` left.
            DeviceError: the device has no memory of this kind.
        """

    def open_stream(self, priority: int = 0) -> Stream:
        """Return a stream; a higher priority goes first, as far as the device has priorities."""

    def open_event(self, *, is_timed: bool = False) -> Event:
        """Return an event. One that is not timed is cheaper."""

    def load_kernel(self, image: bytes, name: str) -> object:
        """Return a kernel of a compiled image. Its parameters are one `ctypes.Structure`, passed as it is.

        Raises:
            DeviceError: the image has no code for this device, or no such kernel.
        """

    def attributes(self) -> Mapping[str, str | int]:
        """Return facts about the device that decide placement, for people and for `doctor`."""

    def memory_info(self) -> tuple[int, int]:
        """Return free and total bytes of the device's memory."""
