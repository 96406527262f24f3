"""Results that wait on disk while the broker is away, and come back in their order when it is there.

A thread of its own reads and writes the file, so that neither lanes nor live results ever wait for a disk.
What is handed in is on disk `flush_s` later at most; what was acknowledged is forgotten as often.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

from edgert.errors import EdgertError, SinkError
from edgert.publish.backlog import Backlog
from edgert.publish.complaint import Complaint
from edgert.publish.options import SpoolOptions
from edgert.publish.sink import SinkPulse, SpoolStats
from edgert.publish.spool_file import EXPIRE_ROWS, Row, SpoolDamagedError, SpoolFile
from edgert.publish.spool_rows import RowMaker
from edgert.publish.ticket import Ticket
from edgert.stats import LiveCount, Tally

log = logging.getLogger(__name__)

MAX_PENDING = 5_000  # results in memory until the disk has them; then the oldest are dropped
FLUSH_PENDING = 1_000  # so many are written at once, without waiting for `flush_s`
EXPIRE_S = 60.0  # how often the time to live is looked after


class Spool:
    """Used by the connection's thread and by those that send results."""

    live: ClassVar[LiveCount] = LiveCount("spool thread")

    def __init__(
        self,
        name: str,
        file: SpoolFile,
        options: SpoolOptions,
        boot: str,
        utc_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.dropped = Tally()
        self._file = file
        self._flush_ns = int(options.flush_s * 1e9)
        self._ttl_ns = int(options.ttl_s * 1e9)
        self._rows = RowMaker(name, boot, self.dropped, utc_ns, mono_ns)
        self._utc_ns, self._mono_ns = utc_ns, mono_ns
        self._complaint = Complaint(log, f"Sink {name}")
        self._lock = threading.Lock()  # for the next two
        self._pending: list[Ticket] = []
        self._backlog = Backlog()
        self._stored = self._replayed = self._set_aside = 0
        self._flush_due_ns = self._expire_due_ns = 0
        self._wake = threading.Event()
        self._is_closing = self._is_urgent = False  # urgent: a flush is due before its time
        self._is_failing = False  # the last write was not done,
        self._is_well = True  # and this says it of deleting too
        self._left = 0  # on disk, at the end
        self._thread: threading.Thread | None = None
        self._name = name
        self.collect: Callable[[], Sequence[Ticket]] = lambda: ()  # asked before each write
        self.on_ahead: Callable[[], None] = lambda: None  # told when there is a next one again

    @property
    def path(self) -> Path:
        """Where results are kept."""
        return self._file.path

    def open(self) -> int:
        """Open the file and start; returns the next ticket's number. A disk that fails is tried again.

        Raises:
            ConfigError: the file cannot be used at all.
        """
        try:
            self._file.open()
        except SpoolDamagedError as error:
            self._begin_anew(error)
        except SinkError as error:
            self._complaint.raised(str(error))
        if self._file.count:
            log.info("%d results wait in %s", self._file.count, self._file.path)
        last = self._file.last_number() if self._file.is_open else self._utc_ns() // 1000
        self._flush_due_ns = self._mono_ns() + self._flush_ns
        self._thread = threading.Thread(target=self._run, name=f"spool:{self._name}", daemon=True)
        self.live.opened()
        self._thread.start()
        return last + 1

    def put(self, tickets: Sequence[Ticket]) -> None:
        """Take results over, but for those that are in flight as stored ones. Any thread; never waits."""
        with self._lock:
            self._pending.extend(self._backlog.others(tickets))
            excess = max(0, len(self._pending) - MAX_PENDING)
            del self._pending[:excess]
            is_due = len(self._pending) >= FLUSH_PENDING and not self._is_failing
        if excess:
            self.dropped.add("disk_failed" if self._is_failing else "slow_disk", excess)
        if is_due:
            self._hurry()

    def begin_replay(self) -> None:
        """A connection is there: `take` begins with the oldest that is not acknowledged."""
        with self._lock:
            self._backlog.begin()
        if self._file.count:
            log.info("%d stored results follow", self._file.count)
        self._hurry()

    def end_replay(self, unfinished: Sequence[Ticket]) -> None:
        """The connection has ended. What it took and was not acknowledged comes again, and so do these."""
        with self._lock:
            others = self._backlog.others(unfinished)
            again = self._backlog.end()
        self.put([*again, *others])

    def has_next(self, most: int) -> bool:
        """Say whether `take` has something, while fewer than `most` of what it gave are in flight."""
        with self._lock:
            return self._backlog.has_ahead and self._backlog.in_flight < most

    def take(self) -> Ticket | None:
        """Return the next stored result; None if none is read ahead. Restores it, which takes its time."""
        while True:
            with self._lock:
                stored = self._backlog.take()
                is_low = self._backlog.is_low
            if is_low:
                self._wake.set()
            if stored is None:
                return None
            stored.ticket = self._rows.restored(stored)
            if stored.ticket is not None:
                self._replayed += 1
                return stored.ticket
            self.done(stored.number)

    def done(self, number: int) -> None:
        """Forget a stored result: the broker has it, or never takes it. Others are passed over."""
        with self._lock:
            self._backlog.done(number)

    def statistics(self) -> SpoolStats:
        """Return what it holds and has done."""
        file = self._file
        return SpoolStats(
            file.count + len(self._pending),
            file.size_bytes,
            self._stored,
            self._replayed,
            self.dropped.snapshot(),
            self._set_aside,
        )

    def pulse(self) -> SinkPulse:
        """Return how far its thread has come: a write is due, and when the next one is shows that it ran."""
        is_early = self._thread is None or self._mono_ns() < self._flush_due_ns
        return SinkPulse(f"spool of sink {self._name}", self._flush_due_ns, is_early)

    def close(self, timeout_s: float) -> int:
        """Write what is pending, and end; returns how many results are on disk then."""
        thread, self._thread = self._thread, None
        if thread is None:
            return 0
        self._is_closing = True
        self._wake.set()
        thread.join(timeout_s)
        if thread.is_alive():
            log.warning("The disk of %s does not answer; its thread is left behind", self.path)
        return self._left

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._wake.wait(max(0, self._flush_due_ns - self._mono_ns()) / 1e9)
                self._wake.clear()
                self._turn()
            self._flush()
        finally:
            self._left = self._file.count
            if self._pending:
                self.dropped.add("disk_failed", len(self._pending))
                log.warning("%d results are lost: %s takes none", len(self._pending), self.path)
            self._file.close()
            self.live.closed()

    def _hurry(self) -> None:
        self._is_urgent = True
        self._wake.set()

    def _turn(self) -> None:
        """Read ahead; before, if it is time for that, forget and write."""
        if self._is_urgent or self._mono_ns() >= self._flush_due_ns:
            self._flush()
        if self._is_well and self._tried(self._read_ahead):
            self._complaint.over("the spool works again")

    def _flush(self) -> None:
        """Forget and write. While a disk fails, it is tried again and memory keeps results."""
        self._is_urgent = False
        self._flush_due_ns = self._mono_ns() + self._flush_ns
        collected = [] if self._is_failing else list(self.collect())
        with self._lock:
            pending, self._pending = sorted([*collected, *self._pending], key=attrgetter("number")), []
        is_forgotten = self._tried(self._forget)
        storable = self._rows.made(pending)
        self._is_failing = not self._tried(lambda: self._write(storable))
        self._is_well = is_forgotten and not self._is_failing
        if self._is_failing:  # before what came since
            with self._lock:
                newer, self._pending = self._pending, [ticket for ticket, _ in storable]
            self.put(newer)

    def _tried(self, work: Callable[[], None]) -> bool:
        """Do it; False if the disk failed."""
        try:
            work()
        except SpoolDamagedError as error:
            self._begin_anew(error)
            return False
        except EdgertError as error:
            self._complaint.raised(str(error))
            return False
        return True

    def _write(self, storable: list[tuple[Ticket, Row]]) -> None:
        if not storable:
            return
        dropped = self._append([row for _, row in storable])
        self._stored += len(storable)
        with self._lock:
            self._backlog.written([ticket for ticket, _ in storable])
            lost = self._backlog.dropped(dropped)
        self._count_lost("over_budget", lost)

    def _append(self, rows: list[Row]) -> list[int]:
        """Store rows; in a new file if the old one turns out to be damaged. Returns the dropped ones."""
        if not self._file.is_open:
            self._file.open()
        try:
            return self._file.append(rows)
        except SpoolDamagedError as error:
            self._begin_anew(error)
            return self._file.append(rows)

    def _count_lost(self, why: str, lost: int) -> None:
        if lost:
            self.dropped.add(why, lost)

    def _forget(self) -> None:
        with self._lock:
            done = self._backlog.to_delete()
        if done:
            self._file.delete(done)
            with self._lock:
                self._backlog.deleted(done)
        if self._file.count and self._mono_ns() >= self._expire_due_ns:
            expired = self._file.expire(self._utc_ns() - self._ttl_ns)
            with self._lock:
                lost = self._backlog.dropped(expired)
            self._count_lost("expired", lost)
            if len(expired) < EXPIRE_ROWS:  # else the next flush goes on
                self._expire_due_ns = self._mono_ns() + int(EXPIRE_S * 1e9)

    def _read_ahead(self) -> None:
        while self._file.count:
            with self._lock:
                reading = self._backlog.wanted()
            if reading is None:
                return
            rows = self._file.after(reading.after, reading.limit)
            with self._lock:
                had_next = self._backlog.has_ahead
                self._backlog.read(reading, rows)
                is_news = self._backlog.has_ahead and not had_next
            if is_news:
                self.on_ahead()

    def _begin_anew(self, error: SpoolDamagedError) -> None:
        """Move the damaged file away and go on with an empty one, now or when something is to be written."""
        with self._lock:
            lost = self._backlog.all_dropped(self._file.count)
        self._count_lost("damaged", lost)
        try:
            aside = self._file.set_aside()
        except SinkError as refused:
            self._complaint.raised(str(refused))
            return
        self._set_aside += 1
        log.error("%s; it is kept as %s, and a new one begun", error, aside)
        try:
            self._file.open()
        except EdgertError as refused:
            self._complaint.raised(str(refused))
