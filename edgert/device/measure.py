"""Times, on the device that is there, what it costs to bring a frame to it through each kind of memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from statistics import median

import msgspec
import numpy as np

from edgert.device.driver import Driver, Event
from edgert.device.memory import Buffer, MemoryKind
from edgert.device.placement import CHOICES, Attributes, MemoryPlan, obstacle
from edgert.errors import DeviceError, DeviceLostError

FRAME_BYTES = 1080 * 1920 * 3  # 1080p, BGR
REPETITIONS = 30
WARM_UPS = 5  # pages that were never touched, clocks that have to rise
CLEARLY = 1.1  # times as fast; less is noise, or another order of reading
_OWNER = "doctor"

Clock = Callable[[], int]


class MemoryTiming(msgspec.Struct, frozen=True):
    """What one choice costs: medians over the repetitions."""

    choice: str
    kind: MemoryKind
    host_write_gb_s: float  # NumPy copies a frame there
    device_read_gb_s: float  # the device reads it where kernels would; staged: the copy and that
    frame_ms: float  # both, one after the other
    is_chosen: bool


class Measured(msgspec.Struct, frozen=True):
    """Every choice of a device: those timed, and why the others are not."""

    timings: tuple[MemoryTiming, ...]
    refused: dict[str, str]

    def better(self) -> MemoryTiming | None:
        """Return the fastest choice where it is clearly faster than the chosen one, else None."""
        best = min(self.timings, key=lambda timing: timing.frame_ms, default=None)
        chosen = next((timing for timing in self.timings if timing.is_chosen), None)
        if best is None or (chosen is not None and chosen.frame_ms <= best.frame_ms * CLEARLY):
            return None
        return best


def measure_memory(
    driver: Driver,
    plan: MemoryPlan,
    *,
    frame_bytes: int = FRAME_BYTES,
    repetitions: int = REPETITIONS,
    clock_ns: Clock = time.perf_counter_ns,
) -> Measured:
    """Time every choice that the device allows, with nothing else running on it. Takes some 100 ms.

    The host writes a frame, then the device reads it, in turn, as in service: so managed memory pays for
    moving to and fro. A copy stands for the kernel that reads; it reads each byte once and in order.

    Raises:
        DeviceLostError: the device no longer answers.
    """
    timings: list[MemoryTiming] = []
    refused: dict[str, str] = {}
    picture_u8 = np.random.default_rng(0).integers(0, 256, frame_bytes, np.uint8)
    for choice in CHOICES:
        try:
            _demand_timeable(driver.attributes(), choice)
            times = _time(driver, choice, picture_u8, repetitions, clock_ns)
        except DeviceLostError:
            raise
        except DeviceError as error:
            refused[choice] = str(error)
        else:
            timings.append(_timing(choice, frame_bytes, *times, is_chosen=choice == plan.choice))
    return Measured(tuple(timings), refused)


def _demand_timeable(attributes: Attributes, choice: str) -> None:
    """Raise DeviceError if a choice cannot even be timed.

    Managed memory can without CONCURRENT_MANAGED_ACCESS: here the host writes only while the device rests.
    """
    if choice == "managed":
        attributes = {**attributes, "CONCURRENT_MANAGED_ACCESS": 1}
    refusal = obstacle(attributes, choice)
    if refusal:
        raise DeviceError(refusal)


def _time(
    driver: Driver, choice: str, picture_u8: np.ndarray, repetitions: int, clock_ns: Clock
) -> tuple[float, float]:
    """Return the median milliseconds of the host's writing and of the device's reading."""
    with driver.current(), ExitStack() as undo:
        path = _Path(driver, choice, picture_u8.nbytes, undo)
        rounds = [(path.write(picture_u8, clock_ns), path.read()) for _ in range(WARM_UPS + repetitions)]
    write_ms, read_ms = (median(column) for column in zip(*rounds[WARM_UPS:], strict=True))
    return write_ms, read_ms


def _timing(
    choice: str, frame_bytes: int, write_ms: float, read_ms: float, *, is_chosen: bool
) -> MemoryTiming:
    rates = _gb_s(frame_bytes, write_ms), _gb_s(frame_bytes, read_ms)
    return MemoryTiming(choice, CHOICES[choice][0], *rates, round(write_ms + read_ms, 4), is_chosen)


class _Path:
    """The buffers that a frame passes: the host writes the first, and the device copies on to the last."""

    def __init__(self, driver: Driver, choice: str, frame_bytes: int, undo: ExitStack) -> None:
        kind, is_staged = CHOICES[choice]
        self._size_bytes = frame_bytes
        self._stream = driver.open_stream()
        undo.callback(self._stream.close)
        self._events = (self._open_event(driver, undo), self._open_event(driver, undo))
        kinds = [kind, MemoryKind.DEVICE, *[MemoryKind.DEVICE] * is_staged]
        self._buffers = [self._allocate(driver, each, undo) for each in kinds]

    def write(self, picture_u8: np.ndarray, clock_ns: Clock) -> float:
        """Write a picture on the host; returns milliseconds."""
        started = clock_ns()
        np.copyto(self._buffers[0].view_u8, picture_u8)
        return (clock_ns() - started) / 1e6

    def read(self) -> float:
        """Read it on the device; returns the device's milliseconds."""
        before, after = self._events
        self._stream.record(before)
        for source, destination in pairwise(self._buffers):
            self._stream.copy(destination.address, source.address, self._size_bytes)
        self._stream.record(after)
        self._stream.synchronize()
        return after.elapsed_ms(before)

    def _allocate(self, driver: Driver, kind: MemoryKind, undo: ExitStack) -> Buffer:
        buffer = driver.allocate(self._size_bytes, kind, _OWNER)
        undo.callback(buffer.free)
        return buffer

    def _open_event(self, driver: Driver, undo: ExitStack) -> Event:
        event = driver.open_event(is_timed=True)
        undo.callback(event.close)
        return event


def _gb_s(size_bytes: int, took_ms: float) -> float:
    return round(size_bytes / 1e6 / took_ms, 2) if took_ms > 0 else 0.0
