"""Results that wait on disk while the broker is away, and come back in their order when it is there.

A thread of its own reads and writes the file, so that neither lanes nor live results ever wait for a disk.
What is handed in is on disk `flush_s` later at most; what was acknowledged is forgotten as often.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import ClassVar

from edgert.errors import EdgertError, SinkError
from edgert.publish.complaint import Complaint
from edgert.publish.options import SpoolOptions
from edgert.publish.sink import SpoolStats
from edgert.publish.spool_file import Row, SpoolDamagedError, SpoolFile
from edgert.publish.stored_result import restore_result, store_result
from edgert.publish.ticket import Ticket
from edgert.stats import LiveCount, Tally

log = logging.getLogger(__name__)

MAX_PENDING = 5_000  # results in memory until the disk has them; then the oldest are dropped
FLUSH_PENDING = 1_000  # so many are written at once, without waiting for `flush_s`
READ_ROWS = 64  # results read ahead for the connection
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
        self._flush_s = options.flush_s
        self._ttl_ns = int(options.ttl_s * 1e9)
        self._boot = boot
        self._utc_ns = utc_ns
        self._mono_ns = mono_ns
        self._complaint = Complaint(log, f"Sink {name}")
        self._lock = threading.Lock()
        self._pending: list[Ticket] = []
        self._done: list[int] = []  # numbers that the broker has
        self._ahead: deque[Ticket] = deque()  # read, for the connection
        self._read_to = 0  # numbers up to this one were read ahead,
        self._taken: set[int] = set()  # and of these the broker has yet to acknowledge
        self._replay = 0  # which connection reads; 0: none does
        self._replays = 0
        self._stored = self._replayed = self._set_aside = 0
        self._expire_due_ns = 0
        self._wake = threading.Event()
        self._is_closing = False
        self._is_failing = False  # the last write was not done
        self._thread: threading.Thread | None = None
        self._name = name
        self.collect: Callable[[], Sequence[Ticket]] = lambda: ()  # asked before each write
        self.on_ahead: Callable[[], None] = lambda: None  # told when `take` has something again

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
        self._thread = threading.Thread(target=self._run, name=f"spool:{self._name}", daemon=True)
        self.live.opened()
        self._thread.start()
        return last + 1

    def put(self, tickets: Sequence[Ticket]) -> None:
        """Take results over. Any thread; never waits."""
        with self._lock:
            self._pending.extend(tickets)
            excess = max(0, len(self._pending) - MAX_PENDING)
            del self._pending[:excess]
            is_due = len(self._pending) >= FLUSH_PENDING and not self._is_failing
        if excess:
            self.dropped.add("disk_failed" if self._is_failing else "slow_disk", excess)
        if is_due:
            self._wake.set()

    def begin_replay(self) -> None:
        """A connection is there: `take` begins with the oldest that is not acknowledged."""
        with self._lock:
            self._replays += 1
            self._replay = self._replays
            self._start_over()
        if self._file.count:
            log.info("%d stored results follow", self._file.count)
        self._wake.set()

    def end_replay(self) -> None:
        """The connection has ended. What it took and was not acknowledged comes again."""
        with self._lock:
            self._replay = 0
            self._start_over()

    def take(self) -> Ticket | None:
        """Return the next stored result; None if none is read ahead."""
        with self._lock:
            ticket = self._ahead.popleft() if self._ahead else None
            is_low = len(self._ahead) < READ_ROWS // 2
        if ticket is not None:
            self._replayed += 1
            if is_low:
                self._wake.set()
        return ticket

    def done(self, number: int) -> None:
        """Forget a stored result: the broker has it, or never takes it."""
        with self._lock:
            self._done.append(number)
            self._taken.discard(number)

    def is_empty(self) -> bool:
        """Nothing waits, here or on disk."""
        return not self._file.count and not self._pending

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

    def close(self, timeout_s: float) -> None:
        """Write what is pending, and end."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._is_closing = True
        self._wake.set()
        thread.join(timeout_s)
        if thread.is_alive():
            log.warning("The disk of %s does not answer; its thread is left behind", self._file.path)

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._wake.wait(self._flush_s)
                self._wake.clear()
                self._turn()
            self._turn()
        finally:
            if self._pending:
                self.dropped.add("disk_failed", len(self._pending))
            self._file.close()
            self.live.closed()

    def _turn(self) -> None:
        """Forget, write and read ahead. While a disk fails, it is tried again and memory keeps results."""
        collected = [] if self._is_failing else list(self.collect())
        with self._lock:
            pending, self._pending = sorted([*collected, *self._pending], key=attrgetter("number")), []
            done, self._done = self._done, []
        is_forgotten = self._tried(lambda: self._forget(done))
        self._is_failing = not self._tried(lambda: self._write(pending))
        if not is_forgotten:
            with self._lock:
                self._done = done + self._done
        if self._is_failing:  # before what came since
            with self._lock:
                newer, self._pending = self._pending, pending
            self.put(newer)
        elif is_forgotten and self._tried(self._read_ahead):
            self._complaint.over("the spool works again")

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

    def _write(self, tickets: list[Ticket]) -> None:
        rows = [row for ticket in tickets if (row := self._row(ticket)) is not None]
        if not rows:
            return
        self._append(rows)
        with self._lock:  # a thread may have been slow to hand its result in
            self._read_to = min(self._read_to, rows[0][0] - 1)

    def _append(self, rows: list[Row]) -> None:
        """Store rows; in a new file if the old one turns out to be damaged."""
        if not self._file.is_open:
            self._file.open()
        try:
            dropped = self._file.append(rows)
        except SpoolDamagedError as error:
            self._begin_anew(error)
            dropped = self._file.append(rows)
        self._stored += len(rows)
        if dropped:
            self.dropped.add("over_budget", dropped)

    def _row(self, ticket: Ticket) -> Row | None:
        try:
            data = store_result(ticket.result, self._boot)
        except Exception as error:  # noqa: BLE001 - whatever a decoder handed on, other results are kept
            self.dropped.add("unstorable")
            self._complaint.raised(f"a result of model {ticket.result.model} cannot be stored: {error!r}")
            return None
        return ticket.number, ticket.result.captured_utc_ns, data

    def _forget(self, done: list[int]) -> None:
        if done:
            self._file.delete(done)
        if self._file.count and self._mono_ns() >= self._expire_due_ns:
            self._expire_due_ns = self._mono_ns() + int(EXPIRE_S * 1e9)
            if expired := self._file.expire(self._utc_ns() - self._ttl_ns):
                self.dropped.add("expired", expired)

    def _read_ahead(self) -> None:
        with self._lock:
            replay, number, room = self._replay, self._read_to, READ_ROWS - len(self._ahead)
        if not replay or room < READ_ROWS // 2 or not self._file.count:
            return
        found = self._file.after(number, room)
        tickets = [ticket for each, data in found if (ticket := self._ticket(each, data)) is not None]
        with self._lock:
            if self._replay != replay or not found:
                return
            passed = self._taken.union(self._done)
            fresh = [ticket for ticket in tickets if ticket.number not in passed]
            self._ahead.extend(fresh)
            self._taken.update(ticket.number for ticket in fresh)
            self._read_to = found[-1][0]
        self.on_ahead()

    def _ticket(self, number: int, data: bytes) -> Ticket | None:
        try:
            return Ticket(number, restore_result(data, self._utc_ns(), self._mono_ns()), is_stored=True)
        except SinkError as error:
            self.dropped.add("damaged")
            self.done(number)
            self._complaint.raised(str(error))
            return None

    def _begin_anew(self, error: SpoolDamagedError) -> None:
        """Move the damaged file away and go on with an empty one, now or when something is to be written."""
        lost = self._file.count
        try:
            aside = self._file.set_aside()
        except SinkError as refused:
            self._complaint.raised(str(refused))
            return
        self._set_aside += 1
        if lost:
            self.dropped.add("damaged", lost)
        log.error("%s; it is kept as %s, and a new one begun", error, aside)
        with self._lock:
            self._done.clear()
            self._start_over()
        try:
            self._file.open()
        except EdgertError as refused:
            self._complaint.raised(str(refused))

    def _start_over(self) -> None:
        self._ahead.clear()
        self._taken.clear()
        self._read_to = 0
