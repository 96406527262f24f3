"""Tells systemd how the service is: when it is ready, what it does, and that nothing hangs.

A thread looks at every part about once a second. As long as all make progress or are rightly idle, it says
so (WATCHDOG=1) and asks for more time where engines are loaded (EXTEND_TIMEOUT_USEC). When something hangs it
stops doing both and names it, in the log and in STATUS; systemd then ends the process and starts a new one.
A camera or broker that is away does not hang.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Protocol

from edgert.pipeline.overview import Overview
from edgert.pipeline.progress import Hang, Progress, Pulse
from edgert.service.notify import SEND_S, Notifier
from edgert.service.status import Rate, describe, describe_hangs
from edgert.service.where import innermost_calls
from edgert.stats import LiveCount

log = logging.getLogger(__name__)

LOOK_S = 1.0  # how often parts are looked at
LOOKS_PER_LIMIT = 4  # at least, in the time that a part may hang
STATUS_S = 5.0  # how often STATUS is brought up to date,
STATUS_SOON_S = 0.2  # and how soon after the last one when something has changed
FIRST_TRY_S = 15.0  # READY does not wait longer for the first attempt to open a source
EXTENSION_S = 60.0  # what is asked for while engines load: an import may keep Python's lock for long
EXTEND_EVERY_S = 15.0

Fields = Mapping[str, str | int]


class Supervised(Protocol):
    """A line, as far as it is told of."""

    @property
    def hang_s(self) -> float:
        """How long a part may be without progress."""

    def pulses(self) -> Iterable[Pulse]:
        """Return how far its parts have come."""

    def loading(self) -> Pulse:
        """Return how far loading has come."""

    def overview(self) -> Overview:
        """Return how it is, in short."""

    def are_sources_tried(self) -> bool:
        """The first attempt to open each source has had an outcome."""


class Supervisor:
    """What the main thread tells of, and the thread that looks. Without a manager nothing happens.

    `tick` asks the main thread for a turn, which it counts with `main_turned`.
    """

    live: ClassVar[LiveCount] = LiveCount("supervisor thread")

    def __init__(
        self,
        notifier: Notifier,
        tick: Callable[[], None],
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._notifier = notifier
        self._tick = tick
        self._mono_ns = mono_ns
        self._lock = threading.Lock()  # what is known changes together with what is sent
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._line: Supervised | None = None
        self._doing = "starting"  # what STATUS says first; empty while it serves
        self._note = ""  # what STATUS says last
        self._is_served = False  # frames are let in, so all parts have to work
        self._is_awaited = False  # systemd waits for READY
        self._ready_by_ns: int | None = None  # READY is owed, and is sent by then
        self._main_turns = 0
        self._main_limit_s = LOOK_S
        self._parts = Progress(2 * LOOK_S)
        self._loads = Progress(2 * LOOK_S)
        self._rate = Rate()
        self._hung: list[Hang] = []
        self._has_changed = True
        self._said_ns = self._pinged_ns = self._extended_ns = -(10**18)

    # What the main thread calls.

    def start(self) -> None:
        """Begin to look."""
        if self._notifier.is_on:
            watchdog_s = self._notifier.watchdog_s
            wants = f"and wants to hear of it every {watchdog_s:g} s" if watchdog_s else "without a watchdog"
            log.info("systemd is told how the service is, %s", wants)
            self._thread = threading.Thread(target=self._run, name="supervise", daemon=True)
            self.live.opened()
            self._thread.start()

    def stop(self) -> None:
        """Say nothing any more."""
        self._is_stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(SEND_S + LOOK_S)  # one that hangs is left behind

    def opening(self, line: Supervised) -> None:
        """A line is being opened, and its models loaded."""
        with self._lock:
            self._line, self._main_limit_s = line, line.hang_s
            self._is_served = False
            self._let_wait()
            self._rate = Rate()
        self.changed()

    def opened(self) -> None:
        """Frames are let in: READY is due once each source was tried."""
        with self._lock:
            self._is_served, self._doing = True, ""
            self._owe_ready()
        self.changed()

    def reloading(self) -> None:
        """The pipeline file is read again."""
        with self._lock:
            self._let_wait()
            self._doing, self._note = "reloading", ""
            self._notifier.send(
                {"RELOADING": 1, "MONOTONIC_USEC": self._mono_ns() // 1000, "STATUS": "reloading"}
            )
        self.changed()

    def reloaded(self, problem: str) -> None:
        """The line goes on, as the file is now or, if there is a problem, as it was."""
        with self._lock:
            self._doing, self._note = "", problem
            self._owe_ready()
        self.changed()

    def closing(self, limit_s: float) -> None:
        """The line is drained and closed, which may take so long; another one follows."""
        with self._lock:
            self._expect_close(limit_s)
            self._notifier.send({"EXTEND_TIMEOUT_USEC": _usec(limit_s)})

    def stopping(self, limit_s: float) -> None:
        """The line is drained and closed, which may take so long; then the process ends."""
        with self._lock:
            self._expect_close(limit_s)
            self._doing, self._is_awaited, self._ready_by_ns = "stopping", False, None
            self._notifier.send({"STOPPING": 1, "STATUS": "stopping", "EXTEND_TIMEOUT_USEC": _usec(limit_s)})

    def note(self, text: str) -> None:
        """Let STATUS end with this until the next reload."""
        self._note = text

    def main_turned(self) -> None:
        """The main thread is at work."""
        self._main_turns += 1

    def changed(self) -> None:
        """Say soon how the line is. Any thread; cheap."""
        self._has_changed = True
        self._wake.set()

    # What the thread does.

    def look(self) -> float:
        """Look at everything once, tell what is due, and return after how many seconds to look again."""
        with self._lock:
            now_ns = self._mono_ns()
            hangs, late = self._hangs(now_ns), self._late_loads(now_ns)
            self._name([*hangs, *late])
            fields: dict[str, str | int] = {}
            if not hangs and (self._is_served or not late):
                fields |= self._sign_of_life(now_ns)
            fields |= self._ready(now_ns)
            if self._is_awaited and not hangs and not late:
                fields |= self._extension(now_ns)
            fields |= self._status(now_ns, is_due="READY" in fields)
            if fields and not self._notifier.send(fields) and "READY" in fields:
                self._owe_ready()
        self._tick()
        return self._patience_s(now_ns)

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._wake.clear()
                self._wake.wait(self.look())
        finally:
            self._notifier.close()
            self.live.closed()

    def _hangs(self, now_ns: int) -> list[Hang]:
        main = Pulse("the main thread", self._main_turns, is_idle=False, limit_s=self._main_limit_s)
        parts = self._line.pulses() if self._line is not None and self._is_served else ()
        return self._parts.look([main, *parts], now_ns)

    def _late_loads(self, now_ns: int) -> list[Hang]:
        return self._loads.look([self._line.loading()] if self._line is not None else [], now_ns)

    def _name(self, hangs: list[Hang]) -> None:
        """Log what has begun to hang, with where all threads are, and what goes on."""
        known, named = {hang.part for hang in self._hung}, {hang.part for hang in hangs}
        if fresh := [hang for hang in hangs if hang.part not in known]:
            text = "%s; systemd is not told that all is well until that ends. Threads: %s"
            log.error(text, describe_hangs(fresh), innermost_calls())
        for part in sorted(known - named):
            log.warning("%s goes on", part)
        self._has_changed = self._has_changed or known != named
        self._hung = hangs

    def _sign_of_life(self, now_ns: int) -> Fields:
        watchdog_s = self._notifier.watchdog_s
        if watchdog_s is None or now_ns - self._pinged_ns < (watchdog_s / 2 - self._look_s() / 2) * 1e9:
            return {}
        self._pinged_ns = now_ns
        return {"WATCHDOG": 1}

    def _extension(self, now_ns: int) -> Fields:
        if now_ns - self._extended_ns < EXTEND_EVERY_S * 1e9:
            return {}
        self._extended_ns = now_ns
        return {"EXTEND_TIMEOUT_USEC": _usec(EXTENSION_S)}

    def _ready(self, now_ns: int) -> Fields:
        if self._ready_by_ns is None or self._line is None:
            return {}
        if now_ns < self._ready_by_ns and not self._line.are_sources_tried():
            return {}
        self._ready_by_ns, self._is_awaited = None, False
        return {"READY": 1}

    def _status(self, now_ns: int, *, is_due: bool) -> Fields:
        waited_s = (now_ns - self._said_ns) / 1e9
        if not is_due and waited_s < (STATUS_SOON_S if self._has_changed else STATUS_S):
            return {}
        self._said_ns, self._has_changed = now_ns, False
        said = [describe_hangs(self._hung), self._doing, self._count(now_ns), self._note]
        return {"STATUS": "; ".join(filter(None, said))}

    def _count(self, now_ns: int) -> str:
        if self._line is None or not self._is_served:
            return self._line.loading().part if self._line is not None else ""
        overview = self._line.overview()
        return describe(overview, self._rate.of(overview.published, now_ns))

    def _patience_s(self, now_ns: int) -> float:
        soon_s = STATUS_SOON_S if self._has_changed else LOOK_S
        return min(self._look_s(), soon_s)

    def _look_s(self) -> float:
        """How often to look: in time for the watchdog, and often enough to say since when something hangs."""
        hang_s = self._line.hang_s if self._line is not None else LOOK_S
        watchdog_s = self._notifier.watchdog_s or LOOK_S * LOOKS_PER_LIMIT
        return min(LOOK_S, hang_s / LOOKS_PER_LIMIT, watchdog_s / LOOKS_PER_LIMIT)

    def _let_wait(self) -> None:
        """Let systemd wait for READY, with more time from now on."""
        self._is_awaited, self._ready_by_ns, self._extended_ns = True, None, -(10**18)

    def _owe_ready(self) -> None:
        self._is_awaited = True
        self._ready_by_ns = self._mono_ns() + int(FIRST_TRY_S * 1e9)

    def _expect_close(self, limit_s: float) -> None:
        """Look at nothing but the main thread, which is busy for so long at most."""
        self._is_served, self._line = False, None
        self._main_limit_s += limit_s


def _usec(duration_s: float) -> int:
    return int(duration_s * 1e6)
