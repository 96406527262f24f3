"""A ring of slots for one source's pixels, each with an owner, a state and a reader count.

    free → writing → ready(n claims) → reading → free

A writer gets only a free slot: one that is being written, waits, or is being read is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Protocol

import msgspec
import numpy as np

from edgert.device.memory import Buffer
from edgert.errors import BusyError, ClosedError, FrameError
from edgert.stats import LiveCount

MAX_VIEWS = 64  # shapes a slot remembers; a sender may choose a new one for every frame


class SlotState(Enum):
    """Who may touch a slot's bytes."""

    FREE = "free"  # nobody
    WRITING = "writing"  # the one writer that acquired it
    READY = "ready"  # claimed by readers that have not begun
    READING = "reading"  # claimed, and at least one reader has begun


class RingStatistics(msgspec.Struct, frozen=True):
    """How full a ring is."""

    slots: int
    used: int
    peak_used: int
    size_bytes: int


class Mirror(Protocol):
    """Memory of a device that goes with a slot."""

    def close(self) -> None:
        """Free it. Nobody reads it any more."""


class Slot:
    """Room for one frame. Only its ring changes its state."""

    __slots__ = ("_ring", "_views", "buffer", "claims", "generation", "index", "mirror", "state")
    live: ClassVar[LiveCount] = LiveCount("claimed slot")

    def __init__(self, ring: SlotRing, index: int) -> None:
        self._ring = ring
        self._views: dict[tuple[int, ...], np.ndarray[Any, np.dtype[np.uint8]]] = {}
        self.buffer: Buffer | None = None
        self.claims = 0
        self.generation = 0  # which frame this is, of all that were written here
        self.index = index
        self.mirror: Mirror | None = None  # the frame's copy on a device, kept by whoever made it
        self.state = SlotState.FREE

    def view(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return the first bytes as a uint8 array of `shape`, no copy; views are kept and reused."""
        view = self._views.get(shape)
        if view is None:
            if self.buffer is None:
                raise BusyError("The slot has no room yet: its writer has to call `fit` first.")
            if len(self._views) >= MAX_VIEWS:
                self._views.clear()
            size = int(np.prod(shape, dtype=np.int64))
            view = self._views[shape] = self.buffer.view_u8[:size].reshape(shape)
        return view

    def fit(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Make room for `shape` and return the array to fill. For the slot's writer only.

        Raises:
            FrameError: the frame is larger than the ring allows.
            BusyError: the caller is not the slot's writer.
        """
        if self.state is not SlotState.WRITING:
            raise BusyError(f"Slot {self.index} is {self.state.value}, not {SlotState.WRITING.value}.")
        view = self._views.get(shape)
        return self._ring.grow(self, shape) if view is None else view

    def commit(self, claims: int) -> None:
        """End writing: the slot is READY with `claims` readers to come; 0 frees it."""
        self._ring.commit(self, claims)

    def abandon(self) -> None:
        """End writing without a frame."""
        self._ring.commit(self, 0)

    def begin_read(self) -> None:
        """Say that a reader has begun; the claim it holds stays until `release`. BusyError without one."""
        if self.claims <= 0:
            raise BusyError(f"Slot {self.index} is read without a claim ({self.state.value}).")
        self.state = SlotState.READING

    def release(self) -> None:
        """Give one claim back; the last one frees the slot. Raises BusyError without a claim."""
        self._ring.release(self)

    def forget_views(self) -> None:
        """Drop the cached views, before the buffer under them goes."""
        self._views.clear()


class SlotRing:
    """A fixed number of slots; memory comes at the first frame and grows up to `max_slot_bytes`."""

    def __init__(self, count: int, max_slot_bytes: int, allocate: Callable[[int], Buffer]) -> None:
        self._allocate = allocate
        self._free = [Slot(self, index) for index in range(count)]
        self._slots = tuple(self._free)
        self._changed = threading.Condition(threading.Lock())
        self._max_slot_bytes = max_slot_bytes
        self._peak_used = 0
        self._is_closed = False

    def acquire_write(self, timeout_s: float = 0.0) -> Slot | None:
        """Return a free slot, now WRITING; None if none comes free in time. Raises ClosedError."""
        with self._changed:
            if not self._free and timeout_s > 0:
                self._changed.wait_for(lambda: bool(self._free) or self._is_closed, timeout_s)
            if self._is_closed:
                raise ClosedError("The slot ring was closed.")
            if not self._free:
                return None
            slot = self._free.pop()
            self._peak_used = max(self._peak_used, len(self._slots) - len(self._free))
        slot.state = SlotState.WRITING
        slot.generation += 1
        Slot.live.opened()
        return slot

    def commit(self, slot: Slot, claims: int) -> None:
        """End writing: the slot is READY with `claims` readers to come; 0 frees it."""
        self._demand(slot, SlotState.WRITING)
        if claims < 0:
            raise ValueError(f"A slot cannot have {claims} claims.")
        slot.claims = claims
        slot.state = SlotState.READY
        if claims == 0:
            self._set_free(slot)

    def abandon(self, slot: Slot) -> None:
        """End writing without a frame."""
        self.commit(slot, 0)

    def release(self, slot: Slot) -> None:
        """Give back one claim of a READY or READING slot."""
        with self._changed:
            if slot.claims <= 0:
                raise BusyError(f"Slot {slot.index} was released without a claim ({slot.state.value}).")
            slot.claims -= 1
            is_last = slot.claims == 0
        if is_last:
            self._set_free(slot)

    def grow(self, slot: Slot, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Give the slot room for `shape`, replacing its buffer if it is too small."""
        self._demand(slot, SlotState.WRITING)
        size = int(np.prod(shape, dtype=object))
        if size > self._max_slot_bytes:
            raise FrameError(f"A frame of {size} bytes is over the source's bound of {self._max_slot_bytes}.")
        if slot.buffer is None or slot.buffer.size_bytes < size:
            self._drop_buffer(slot)
            slot.buffer = self._allocate(size)
        return slot.view(shape)

    def close(self, timeout_s: float = 5.0) -> None:
        """Refuse writers, wait for readers, free the memory. Raises BusyError if claims remain."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(self._all_free, max(0.0, deadline - time.monotonic()))
            if not self._all_free():
                held = [f"{slot.index}:{slot.state.value}" for slot in self._slots if slot not in self._free]
                raise BusyError(f"Slots are still in use: {', '.join(held)}.")
        for slot in self._slots:
            self._drop_buffer(slot)

    def statistics(self) -> RingStatistics:
        """Return how many slots are and were in use, and their memory."""
        with self._changed:
            used = len(self._slots) - len(self._free)
        buffers = [slot.buffer for slot in self._slots]  # a writer may be replacing its own just now
        size = sum(buffer.size_bytes for buffer in buffers if buffer)
        return RingStatistics(len(self._slots), used, self._peak_used, size)

    def _all_free(self) -> bool:
        return len(self._free) == len(self._slots)

    def _set_free(self, slot: Slot) -> None:
        slot.state = SlotState.FREE
        Slot.live.closed()
        with self._changed:
            self._free.append(slot)
            self._changed.notify()

    def _demand(self, slot: Slot, state: SlotState) -> None:
        if slot.state is not state:
            raise BusyError(f"Slot {slot.index} is {slot.state.value}, not {state.value}.")

    @staticmethod
    def _drop_buffer(slot: Slot) -> None:
        slot.forget_views()
        mirror, slot.mirror = slot.mirror, None
        if mirror is not None:
            mirror.close()
        if slot.buffer is not None:
            slot.buffer.free()
            slot.buffer = None
