"""Results in an SQLite file, oldest first. One thread at a time uses it.

Every write is one transaction, in the log in front of the database (WAL) before it returns, also after a
power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from edgert.errors import ConfigError, EdgertError, SinkError
from edgert.stats import LiveCount

VERSION = 1
ROW_BYTES = 32  # what a row takes beside its data
SLACK = 2.5  # times the budget may lie in the file: a row of a little over 2 KiB takes a page
PAGE_BYTES = 4096
BATCH_SHARE = 0.125  # of the budget is stored before the oldest are dropped
TRIM_ROWS = 256  # looked at in one go
EXPIRE_ROWS = 256  # forgotten in one go
# A board without a clock of its own starts in 1970, and is right some seconds later.
SANE_UTC_NS = 1_577_836_800 * 1_000_000_000  # 2020

# SQLite's result codes: what is no database any more, and what somebody else has. All others are the disk's.
DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB
IN_USE = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
# What SQLite says with them; Python 3.10 does not hand the codes on.
DAMAGED_TEXTS = ("malformed", "not a database")
IN_USE_TEXTS = ("database is locked", "database table is locked")

Row = tuple[int, int, bytes]  # number, captured_utc_ns, data


class SpoolDamagedError(SinkError):
    """The file is not, or no longer, a database of ours."""


class SpoolFile:
    """`size_bytes` and `count` are of what is stored; both are 0 while it is closed."""

    live: ClassVar[LiveCount] = LiveCount("spool file")

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.size_bytes = self.count = 0
        self._max_bytes = max_bytes
        self._database: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Say whether it can be used."""
        return self._database is not None

    def open(self) -> None:
        """Open the file, and make it if it is absent.

        Raises:
            SpoolDamagedError: it is no spool, or a damaged one; `set_aside` helps.
            SinkError: the disk fails, or is full.
            ConfigError: it cannot be opened or made, another process has it open, or a newer edgert wrote it.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"spool {self.path} cannot be opened: {error}") from error
        try:
            self._prepare(database)
        except sqlite3.DatabaseError as error:
            database.close()
            raise self._translated(error) from error
        except EdgertError:
            database.close()
            raise
        self._database = database
        self.live.opened()

    def set_aside(self) -> Path:
        """Move a damaged file out of the way, over the one before; returns where it is. It is closed.

        Raises:
            SinkError: the disk does not let it.
        """
        self.close()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            for suffix in ("-wal", "-shm", "-journal"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self.path.replace(aside)
        except FileNotFoundError:
            return aside
        except OSError as error:
            raise SinkError(f"spool {self.path} is damaged and cannot be moved: {error}") from error
        return aside

    def append(self, rows: Sequence[Row]) -> list[int]:
        """Store rows, and drop the oldest until all fit; returns the numbers of these. Raises SinkError."""
        dropped = []
        with self._transaction() as database:
            for batch in self._batches(rows):
                database.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?)", batch)
                self.count += len(batch)
                self.size_bytes += sum(_row_bytes(row) for row in batch)
                dropped += self._trim(database)
        return dropped + [row[0] for row in rows if _row_bytes(row) > self._max_bytes]

    def delete(self, numbers: Iterable[int]) -> None:
        """Forget these rows and no others; what is not there any more is passed over. Raises SinkError."""
        with self._transaction() as database:
            self._forget(database, numbers)

    def expire(self, before_utc_ns: int) -> list[int]:
        """Forget some of what was captured before, but not what was captured without a clock.

        Returns their numbers, `EXPIRE_ROWS` at most. Raises SinkError.
        """
        with self._transaction() as database:
            found = database.execute(
                "SELECT number FROM result WHERE captured_utc_ns < ? AND captured_utc_ns > ? "
                "ORDER BY number LIMIT ?",
                (before_utc_ns, SANE_UTC_NS, EXPIRE_ROWS),
            ).fetchall()
            numbers = [number for (number,) in found]
            self._forget(database, numbers)
            return numbers

    def after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to `limit` rows with greater numbers, (number, data), in order. Raises SinkError."""
        with self._transaction() as database:
            found = database.execute(
                "SELECT number, CAST(data AS BLOB) FROM result WHERE number > ? ORDER BY number LIMIT ?",
                (number, limit),
            ).fetchall()
            return [(each, data or b"") for each, data in found]

    def last_number(self) -> int:
        """Return the greatest number in it, 0 if it is empty. Raises SinkError."""
        with self._transaction() as database:
            return int(database.execute("SELECT coalesce(max(number), 0) FROM result").fetchone()[0])

    def close(self) -> None:
        """Close it. Allowed again."""
        database, self._database = self._database, None
        self.size_bytes = self.count = 0
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()
            self.live.closed()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. What SQLite raises comes out as SinkError or SpoolDamagedError."""
        database = self._database
        if database is None:
            raise SinkError(f"spool {self.path} is not open")
        before = self.count, self.size_bytes
        try:
            database.execute("BEGIN")
            yield database
            database.execute("COMMIT")
        except sqlite3.Error as error:
            self.count, self.size_bytes = before
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise self._translated(error) from error

    def _prepare(self, database: sqlite3.Connection) -> None:
        pages = int(self._max_bytes * SLACK) // PAGE_BYTES + 64
        for pragma in (
            "locking_mode = EXCLUSIVE",  # a second process is told, and there is no shared memory
            "journal_mode = WAL",
            "synchronous = FULL",
            "cache_size = -512",
            "temp_store = MEMORY",
            f"max_page_count = {pages}",
        ):
            database.execute(f"PRAGMA {pragma}").fetchall()
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise ConfigError(
                f"spool {self.path} is of version {version}, this edgert reads {VERSION}; move it away"
            )
        if version == 0:  # a full disk takes no write, not even this one
            database.execute(
                "CREATE TABLE IF NOT EXISTS result "
                "(number INTEGER PRIMARY KEY, captured_utc_ns INTEGER NOT NULL, data BLOB NOT NULL)"
            )
            database.execute(f"PRAGMA user_version = {VERSION}")
        problem = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise SpoolDamagedError(f"spool {self.path} is damaged: {problem}")
        self.count, self.size_bytes = _measured(database, "1", ())

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Yield rows that can be stored before there is room for them; those over the budget are left out."""
        batch: list[Row] = []
        batch_bytes = 0
        for row in rows:
            row_bytes = _row_bytes(row)
            if row_bytes > self._max_bytes:
                continue
            if batch and batch_bytes + row_bytes > self._max_bytes * BATCH_SHARE:
                yield batch
                batch, batch_bytes = [], 0
            batch.append(row)
            batch_bytes += row_bytes
        if batch:
            yield batch

    def _trim(self, database: sqlite3.Connection) -> list[int]:
        dropped: list[int] = []
        while self.size_bytes > self._max_bytes and self.count:
            excess = self.size_bytes - self._max_bytes
            oldest = database.execute(
                "SELECT number, length(data) FROM result ORDER BY number LIMIT ?", (TRIM_ROWS,)
            ).fetchall()
            numbers = []
            for number, size_bytes in oldest:
                numbers.append(number)
                excess -= size_bytes + ROW_BYTES
                if excess <= 0:
                    break
            self._forget_where(database, "number <= ?", numbers[-1])
            dropped += numbers
        return dropped

    def _forget(self, database: sqlite3.Connection, numbers: Iterable[int]) -> None:
        """Two statements for each run of numbers: each costs a hand-over of the interpreter's lock."""
        for first, last in runs(numbers):
            self._forget_where(database, "number BETWEEN ? AND ?", first, last)

    def _forget_where(self, database: sqlite3.Connection, where: str, *values: int) -> None:
        count, size_bytes = _measured(database, where, values)
        if count:
            database.execute(f"DELETE FROM result WHERE {where}", values)  # noqa: S608 - our own text
            self.count -= count
            self.size_bytes -= size_bytes

    def _translated(self, error: sqlite3.Error) -> SinkError | ConfigError:
        if _is(error, IN_USE, IN_USE_TEXTS):
            return ConfigError(f"spool {self.path} is in use by another process; give each sink its own")
        if _is(error, DAMAGED, DAMAGED_TEXTS):
            return SpoolDamagedError(f"spool {self.path} is damaged: {error}")
        return SinkError(f"spool {self.path}: {error}")


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield first and last of each run of consecutive numbers, in order."""
    for _, run in groupby(enumerate(sorted(set(numbers))), lambda place: place[1] - place[0]):
        members = [number for _, number in run]
        yield members[0], members[-1]


def _row_bytes(row: Row) -> int:
    return len(row[2]) + ROW_BYTES


def _is(error: sqlite3.Error, codes: Sequence[int], texts: Sequence[str]) -> bool:
    """Say whether it is of one of these kinds, whose texts are looked at only where there is no code."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in codes  # the rest says more than is asked
    return any(text in str(error) for text in texts)


def _measured(database: sqlite3.Connection, where: str, values: tuple[int, ...]) -> tuple[int, int]:
    """Return how many rows there are, and what they count for."""
    row = database.execute(
        f"SELECT count(*), coalesce(sum(length(data) + {ROW_BYTES}), 0) FROM result WHERE {where}",  # noqa: S608
        values,
    ).fetchone()
    return int(row[0]), int(row[1])
