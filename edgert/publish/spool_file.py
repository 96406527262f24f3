"""Results in an SQLite file, oldest first. One thread at a time uses it.

Every write is one transaction, in the log in front of the database (WAL) before it returns, also after a
power cut.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from edgert.errors import ConfigError, SinkError
from edgert.stats import LiveCount

VERSION = 1
ROW_BYTES = 32  # what a row takes beside its data
SLACK = 2.5  # times the budget may lie in the file: a row of a little over 2 KiB takes a page
PAGE_BYTES = 4096
TRIM_ROWS = 256  # looked at in one go
# A board without a clock of its own starts in 1970, and is right some seconds later.
SANE_UTC_NS = 1_577_836_800 * 1_000_000_000  # 2020

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
        except ConfigError:
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

    def append(self, rows: Sequence[Row]) -> int:
        """Store rows, then drop the oldest until all fit; returns how many were dropped. Raises SinkError."""
        coming_bytes = sum(len(data) + ROW_BYTES for _, _, data in rows)
        with self._transaction() as database:
            dropped = self._trim(database, max(0, self._max_bytes - coming_bytes))
            database.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?)", rows)
            self.count += len(rows)
            self.size_bytes += coming_bytes
            return dropped + self._trim(database, self._max_bytes)

    def delete(self, numbers: Iterable[int]) -> None:
        """Forget rows; those that are not there any more are passed over. Raises SinkError."""
        with self._transaction() as database:
            for number in numbers:
                self._forget(database, "number = ?", number)

    def expire(self, before_utc_ns: int) -> int:
        """Forget what was captured before, but not what was captured without a clock; returns how many."""
        with self._transaction() as database:
            where = f"captured_utc_ns < ? AND captured_utc_ns > {SANE_UTC_NS}"
            return self._forget(database, where, before_utc_ns)

    def after(self, number: int, limit: int) -> list[tuple[int, bytes]]:
        """Return up to `limit` rows with greater numbers, (number, data), in order. Raises SinkError."""
        with self._transaction() as database:
            found = database.execute(
                "SELECT number, data FROM result WHERE number > ? ORDER BY number LIMIT ?", (number, limit)
            )
            return [(int(each), bytes(data)) for each, data in found]

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
            raise sqlite3.DatabaseError(problem)
        self.count, self.size_bytes = _measured(database, "1", ())

    def _trim(self, database: sqlite3.Connection, most_bytes: int) -> int:
        dropped = 0
        while self.size_bytes > most_bytes and self.count:
            excess, last = self.size_bytes - most_bytes, 0
            for number, size_bytes in database.execute(
                f"SELECT number, length(data) FROM result ORDER BY number LIMIT {TRIM_ROWS}"  # noqa: S608
            ).fetchall():
                last, excess = number, excess - size_bytes - ROW_BYTES
                if excess <= 0:
                    break
            dropped += self._forget(database, "number <= ?", last)
        return dropped

    def _forget(self, database: sqlite3.Connection, where: str, value: int) -> int:
        count, size_bytes = _measured(database, where, (value,))
        if count:
            database.execute(f"DELETE FROM result WHERE {where}", (value,))  # noqa: S608 - our own text
            self.count -= count
            self.size_bytes -= size_bytes
        return count

    def _translated(self, error: sqlite3.Error) -> SinkError | ConfigError:
        text = str(error)
        if "locked" in text:
            return ConfigError(f"spool {self.path} is in use by another process; give each sink its own")
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in text:
            return SinkError(f"spool {self.path}: {text}")
        return SpoolDamagedError(f"spool {self.path} is damaged: {text}")


def _measured(database: sqlite3.Connection, where: str, values: tuple[int, ...]) -> tuple[int, int]:
    """Return how many rows there are, and what they count for."""
    row = database.execute(
        f"SELECT count(*), coalesce(sum(length(data) + {ROW_BYTES}), 0) FROM result WHERE {where}",  # noqa: S608
        values,
    ).fetchone()
    return int(row[0]), int(row[1])
