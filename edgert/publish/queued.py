"""What sinks share: counters, a queue that counts what it drops, a thread that writes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, Generic, Protocol, TypeVar

from edgert.errors import ClosedError, SinkError
from edgert.frames.channel import Channel
from edgert.frames.result import Result
from edgert.publish.complaint import Complaint
from edgert.publish.encoder import Encoder
from edgert.publish.sink import SinkPulse, SinkStats
from edgert.stats import Latency, LiveCount, Tally

log = logging.getLogger(__name__)


class Captured(Protocol):
    """What a queue holds knows when its frame was captured."""

    @property
    def captured_mono_ns(self) -> int:
        """By time.monotonic_ns."""


T = TypeVar("T", bound=Captured)
Encoded = TypeVar("Encoded")

LAST_WORD_S = 1.0  # what a write that was told to give up gets to notice


class SinkCounts:
    """A sink's counters. `dropped` may be added to by any thread, the others by the sink's own."""

    def __init__(self, mono_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._mono_ns = mono_ns
        self.dropped = Tally()
        self.latency = Latency()
        self.sent = 0
        self.failed = 0
        self.acknowledged = 0
        self.refused = 0

    def add_sent(self, captured_mono_ns: Iterable[int]) -> None:
        """Count results as sent just now, by when they were captured."""
        now_ns = self._mono_ns()
        for captured_ns in captured_mono_ns:
            self.sent += 1
            self.latency.add(now_ns - captured_ns)


class SinkQueue(Generic[T]):
    """A bounded queue in front of a sink's thread. `put` never waits and never raises."""

    def __init__(
        self,
        capacity: int,
        counts: SinkCounts,
        why_full: Callable[[], str] = lambda: "queue_full",
        spill: Callable[[T], None] | None = None,
    ) -> None:
        """`spill` takes what there is no room for; without it that is dropped, and counted as `why_full`."""
        self._counts = counts
        self._why_full = why_full
        self._channel: Channel[T] = Channel(capacity, spill or self._on_drop)

    def put(self, item: T) -> None:
        """Add; the oldest is dropped when full, this one when closed. Any thread."""
        try:
            self._channel.put(item)
        except ClosedError:
            self._counts.dropped.add("closed")

    def take_all(self, timeout_s: float | None = None) -> list[T]:
        """Wait for items and take all; empty when time runs out, or closed and drained."""
        return self._channel.take_all(timeout_s)

    def take_nowait(self) -> T | None:
        """Take the oldest; None if there is none."""
        return self._channel.take_nowait()

    def close(self) -> None:
        """Take no more in."""
        self._channel.close()

    def discard(self) -> None:
        """Drop what is left, counted as `closed`. After `close`."""
        left = self._channel.take_all(0.0)
        if left:
            self._counts.dropped.add("closed", len(left))

    @property
    def is_finished(self) -> bool:
        """Closed, and nothing left to take."""
        return self._channel.is_finished

    def statistics(self, is_connected: bool) -> SinkStats:
        """Return the sink's counters and how full the queue is."""
        counts = self._counts
        return SinkStats(
            sent=counts.sent,
            failed=counts.failed,
            dropped=counts.dropped.snapshot(),
            queue=self._channel.statistics(),
            acknowledged=counts.acknowledged,
            refused=counts.refused,
            is_connected=is_connected,
            latency=counts.latency.summary(),
        )

    def _on_drop(self, _: T) -> None:
        self._counts.dropped.add(self._why_full())


class CountingEncoder:
    """Encodes results on the sink's thread. One that cannot be encoded is counted and stops nothing else."""

    def __init__(self, name: str, encoder: Encoder, counts: SinkCounts) -> None:
        self._encoder = encoder
        self._counts = counts
        self._complaint = Complaint(log, f"Sink {name}")

    def encode(self, result: Result, historical: bool = False) -> bytes | None:
        """Return the JSON, or None after counting a failure."""
        try:
            return self._encoder.encode(result, historical)
        except Exception as error:  # noqa: BLE001  whatever a decoder handed on, other results must go out
            self._counts.failed += 1
            self._complaint.raised(f"a result of model {result.model} cannot be encoded: {error!r}")
            return None


class DeliveryThread(Generic[T, Encoded]):
    """Takes all from a queue, encodes each, and hands the batch to `write`, until closed and drained.

    `encode` returns None for an item that it has counted as failed. `write` raises SinkError if the batch
    has failed, ClosedError if it had to stop because `gave_up` is set.
    """

    live: ClassVar[LiveCount] = LiveCount("publish thread")

    def __init__(
        self,
        name: str,
        queue: SinkQueue[T],
        counts: SinkCounts,
        encode: Callable[[T], Encoded | None],
        write: Callable[[list[Encoded]], None],
    ) -> None:
        self._name = name
        self._queue = queue
        self._counts = counts
        self._encode = encode
        self._write = write
        self._complaint = Complaint(log, f"Sink {name}")
        self._thread: threading.Thread | None = None
        self.gave_up = threading.Event()
        self.turns = 0  # odd while it delivers

    def start(self, at_end: Callable[[], None] = lambda: None) -> None:
        """Begin to deliver. The thread calls `at_end` after its last write, however late that returns."""
        name = f"publish:{self._name}"
        self._thread = threading.Thread(target=self._run, args=(at_end,), name=name, daemon=True)
        self.live.opened()
        self._thread.start()

    def pulse(self, other_turns: int = 0) -> SinkPulse:
        """Return how far it has come; `other_turns` are those of a write that takes longer."""
        return SinkPulse(f"sink {self._name}", self.turns + other_turns, is_idle=self.turns % 2 == 0)

    def stop(self, timeout_s: float) -> None:
        """Deliver what is queued, at most for `timeout_s`; the rest is counted as dropped."""
        self._queue.close()
        thread, self._thread = self._thread, None
        if thread is None:
            self._queue.discard()
            return
        thread.join(timeout_s)
        self.gave_up.set()
        thread.join(LAST_WORD_S)
        if thread.is_alive():
            log.warning("Sink %s: its write does not return; its thread is left behind", self._name)

    def _run(self, at_end: Callable[[], None]) -> None:
        try:
            while not self._queue.is_finished:
                items = self._queue.take_all()
                self.turns += 1
                self._deliver(items)
                self.turns += 1
                del items
        finally:
            at_end()
            self.live.closed()

    def _deliver(self, items: list[T]) -> None:
        pairs = [(item, self._encode(item)) for item in items]
        ready = [(item.captured_mono_ns, encoded) for item, encoded in pairs if encoded is not None]
        if not ready:
            return
        try:
            self._write_unless_given_up([encoded for _, encoded in ready])
        except ClosedError:
            self._counts.dropped.add("closed", len(ready))
        except SinkError as error:
            self._counts.failed += len(ready)
            self._complaint.raised(str(error))
        else:
            self._complaint.over("writes again")
            self._counts.add_sent(captured for captured, _ in ready)

    def _write_unless_given_up(self, batch: list[Encoded]) -> None:
        if self.gave_up.is_set():
            raise ClosedError("The sink was closed.")
        self._write(batch)
