"""The loop that moves one source's frames into slots."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable

from edgert.capture.connection import Connection
from edgert.capture.options import SourceOptions
from edgert.capture.pace import Clock
from edgert.capture.source import Captured, Source
from edgert.capture.state import SourceState, SourceStats
from edgert.capture.unforeseen import UnforeseenError, unforeseen_as
from edgert.errors import (
    BusyError,
    ClosedError,
    ConfigError,
    EdgertError,
    EndOfSourceError,
    FrameError,
    OutOfDeviceMemoryError,
    SourceError,
)
from edgert.frames.frame import Frame
from edgert.frames.slots import Slot, SlotRing, SlotState

log = logging.getLogger(__name__)

SLICE_S = 0.2  # longest wait before stop and pause are looked at
NO_SLOT_SLICE_S = 0.005  # longest wait for a slot while answers, or newer frames, may come
TIDY_MASK = 63  # slower numbers are brought up to date every 64 frames
WARNING_INTERVAL_NS = 60_000_000_000  # refused frames are warned of once in this time


class Capture:
    """One thread that reads one source until it ends or `stop` is called.

    `deliver` gets each frame with its slot still WRITING, and commits it. `make_room`, asked under
    `latest` when no slot is free, gives up the oldest waiting frame and says whether there was one.
    `on_state` hears every change with its reason, `on_end` once that no frame will come any more,
    with the error if one was the cause (a ConfigError: all else is tried again). Its thread calls them.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        ring: SlotRing,
        options: SourceOptions,
        deliver: Callable[[Frame], None],
        *,
        make_room: Callable[[], bool] = lambda: False,
        on_state: Callable[[SourceState, str], None] = lambda _state, _reason: None,
        on_end: Callable[[Exception | None], None] = lambda _error: None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._source = source
        self._ring = ring
        self._deliver = deliver
        self._make_room = make_room
        self._on_end = on_end
        self._clock = clock or Clock()
        self._blocks = options.chosen_policy() == "every"
        self._answers = options.spec().answers
        self._is_camera = options.spec().is_camera  # frames that wait in one grow old
        self._connection = Connection(
            name, source, options, clock=self._clock, on_state=on_state, jitter=jitter
        )
        self.stats: SourceStats = self._connection.stats
        self._thread = threading.Thread(target=self.run, name=f"capture:{name}", daemon=True)
        self._wake = threading.Event()
        self._gate = threading.Lock()  # so that nothing is delivered once `hold` has returned
        self._is_stopping = False
        self._is_paused = self._is_held = self._is_resting = False
        self.turns = 0  # of its thread: another number after each thing that it did
        self._slot: Slot | None = None  # acquired, waiting for a frame
        self._seq = 0
        self._warned_ns = -WARNING_INTERVAL_NS
        self._complaint = ""  # the newest error that nobody foresaw

    def start(self) -> None:
        """Begin to capture."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop reading and close the source. Raises BusyError if its thread hangs."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise BusyError(f"Source {self.name} has not stopped within {timeout_s:g} s.")

    @property
    def is_idle(self) -> bool:
        """No next turn is due: it pauses, has ended or has not begun. Any thread."""
        return self._is_resting or not self._thread.is_alive()

    @property
    def is_tried(self) -> bool:
        """The first attempt has had an outcome: frames, a failure, or a socket that waits for senders."""
        return self.stats.state != "connecting" or (self._connection.is_open and not self._is_camera)

    def hold(self) -> None:
        """Deliver no more frames until `resume`, but stay connected and send answers.

        Before `start`, a clip or a socket is opened all the same, a camera not until `resume`.

        Does not wait for the source, only for a `deliver` that runs just now.
        """
        with self._gate:
            self._is_held = True
        self._wake.set()

    def pause(self) -> None:
        """Close the source until `resume`. Returns at once; the state becomes `disabled`."""
        self._is_paused = True
        self._wake.set()

    def resume(self) -> None:
        """Take frames again after `pause` or `hold`."""
        self._is_paused = self._is_held = False
        self._wake.set()

    def run(self) -> None:
        """Read until the end. This is what the thread does; a test calls it directly."""
        cause: EdgertError | None = None
        try:
            while not self._is_stopping:
                self._turn()
                self.turns += 1
        except EndOfSourceError as end:
            cause = end
        except ConfigError as error:
            log.exception("source %s cannot go on", self.name)
            cause = error
        finally:
            self._leave()
        if cause is not None:
            self._connection.end(str(cause))
            self._on_end(None if isinstance(cause, EndOfSourceError) else cause)

    def _turn(self) -> None:
        """Do the next thing: rest, connect, or read one frame."""
        try:
            with unforeseen_as(UnforeseenError, "broke"):
                self._do_next()
        except (EndOfSourceError, ConfigError):
            raise
        except (FrameError, OutOfDeviceMemoryError) as error:
            self._refused(error)
        except EdgertError as error:
            self._lost(error)

    def _do_next(self) -> None:
        if self._is_paused:
            self._rest()
        elif self._is_held and (self._connection.is_open or self._is_camera):
            self._wait_held()
        elif not self._connection.is_open:
            self._connect()
        else:
            self._step()

    def _rest(self) -> None:
        self._connection.disable()
        while self._is_paused and not self._is_stopping:
            self._pause_for(SLICE_S)
        if not self._is_stopping:
            self._connection.enable()

    def _wait_held(self) -> None:
        if self._answers and self._connection.is_open:
            self._source.tend(SLICE_S)
        else:
            self._pause_for(SLICE_S)
        self._tidy()

    def _connect(self) -> None:
        pause_s = self._connection.retry_s()
        if not pause_s or not self._pause_for(pause_s):
            self._connection.open()

    def _pause_for(self, duration_s: float) -> bool:
        """Wait; return True at once if stop, pause or resume is called meanwhile."""
        self._wake.clear()
        self._is_resting = True
        is_woken = self._is_stopping or self._clock.wait(self._wake, duration_s)
        self._is_resting = False
        return is_woken

    def _step(self) -> None:
        slot = self._slot
        if slot is None:
            slot = self._slot = self._acquire()
            if slot is None and self._blocks:
                self._connection.excuse_silence()
                return
        captured = self._source.read(slot, SLICE_S if slot is not None else NO_SLOT_SLICE_S)
        if captured is None:
            self._tidy()
            self._connection.watch_silence()
        else:
            self._take(captured, slot)

    def _acquire(self) -> Slot | None:
        slot = self._ring.acquire_write()
        if slot is not None:
            return slot
        if not self._blocks:
            return self._ring.acquire_write() if self._make_room() else None
        if self._answers:
            self._source.tend(0)
        return self._ring.acquire_write(NO_SLOT_SLICE_S if self._answers else SLICE_S)

    def _take(self, captured: Captured, slot: Slot | None) -> None:
        seq = self._seq
        self._seq = seq + 1
        self.stats.frames += 1
        self._connection.heard(captured.captured_mono_ns)
        if slot is None:
            self._give_up(captured, "no_slot", BusyError("Every slot of this source is in use; try again."))
        else:
            self._slot = None
            self._hand_on(captured, slot, seq)
        if not seq & TIDY_MASK:
            self._tidy()

    def _hand_on(self, captured: Captured, slot: Slot, seq: int) -> None:
        frame = Frame(
            self.name,
            seq,
            captured.format,
            captured.height,
            captured.width,
            captured.captured_mono_ns,
            captured.captured_utc_ns,
            slot,
            captured.model,
            captured.reply,
        )
        try:
            with self._gate, unforeseen_as(UnforeseenError, "delivery broke"):
                self._demand_taking()
                self._deliver(frame)
        except EdgertError as error:
            if slot.state is SlotState.WRITING:
                self._ring.abandon(slot)
            self._give_up(captured, "held" if self._is_held else error.status, error)
            if isinstance(error, UnforeseenError):
                raise

    def _demand_taking(self) -> None:
        if self._is_held:
            raise BusyError(f"Source {self.name} takes no frames at the moment.")

    def _give_up(self, captured: Captured, reason: str, error: EdgertError) -> None:
        self.stats.refused.add(reason)
        if captured.reply is not None:
            with contextlib.suppress(ClosedError):  # whoever failed had answered before
                captured.reply.refuse(error)

    def _refused(self, error: EdgertError) -> None:
        """Count a frame that the source refused; its sender was told by the source."""
        self.stats.frames += 1
        self.stats.refused.add(error.status)
        now_ns = self._clock.monotonic_ns()
        is_due = now_ns - self._warned_ns >= WARNING_INTERVAL_NS
        self._warned_ns = now_ns if is_due else self._warned_ns
        level = logging.WARNING if is_due else logging.DEBUG
        log.log(level, "source %s: frame refused: %s", self.name, error)
        if isinstance(error, FrameError):  # a camera of which no frame can be used is as good as silent
            self._connection.watch_silence()

    def _lost(self, error: EdgertError) -> None:
        """Let the source be opened again. What nobody foresaw is told with its traceback, once."""
        if isinstance(error, UnforeseenError) or not isinstance(error, SourceError):
            level = logging.DEBUG if str(error) == self._complaint else logging.ERROR
            self._complaint = str(error)
            self.stats.lost.add("unforeseen")
            log.log(level, "source %s broke in a way that edgert did not foresee", self.name, exc_info=error)
        self._connection.lose(error)

    def _tidy(self) -> None:
        self.stats.cpu_ns = time.thread_time_ns() + self._source.helper_cpu_ns()
        for name, count in self._source.take_counts().items():
            self.stats.lost.add(name, count)

    def _leave(self) -> None:
        self._connection.close()
        self._tidy()
        if self._slot is not None:
            self._ring.abandon(self._slot)
            self._slot = None
