"""Where a spool lies, whether it can lie there, and what others lie beside it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from edgert.errors import ConfigError
from edgert.publish.client_id import state_folder
from edgert.publish.options import Resolve, SpoolOptions

LOCKS = Path("/proc/locks")


def spool_path(options: SpoolOptions, node: str, sink: str, resolve: Resolve) -> Path:
    """Return where the spool of a sink is."""
    return resolve(options.path) if options.path else state_folder() / "spool" / f"{node}-{sink}.db"


def check_place(path: Path) -> None:
    """See that a spool can be written, or made with its folders, and make nothing. Raises ConfigError.

    One on a disk that can only be read now passes: the sink says so, and goes on without it.
    """
    if os.access(path, os.F_OK):
        return _check_file(path)
    nearest = next(folder for folder in path.parents if os.access(folder, os.F_OK))
    if not nearest.is_dir():
        raise ConfigError(f"spool.path {path}: {nearest} is a file; expected a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"spool.path {path}: this user may not write {nearest}")
    return None


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"spool.path {path} is a folder; expected a file")
    is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    if not is_read_only and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(f"spool.path {path}: this user may not read and write it")


def left_behind(own: Path, node: str) -> Iterator[tuple[Path, int]]:
    """Yield the spools with results beside `own` that belong to no sink of this node, and their bytes.

    Those that a process has open are left out. Nothing is locked, changed or made.
    """
    for path in sorted(own.parent.glob("*.db")):
        if path != own and not path.name.startswith(f"{node}-") and _has_results(path):
            yield path, _size_bytes(path)


def _has_results(path: Path) -> bool:
    try:
        if _is_open(path):
            return False
        return _log_of(path).exists() or _has_rows(path)
    except (OSError, sqlite3.Error):  # no spool, or none that this user may read
        return False


def _is_open(path: Path) -> bool:
    """Say whether a process holds a lock, without asking for one: its owner may start just now."""
    return LOCKS.exists() and f":{path.stat().st_ino} " in LOCKS.read_text("ascii")


def _has_rows(path: Path) -> bool:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as database:
        return bool(database.execute("SELECT EXISTS (SELECT 1 FROM result)").fetchone()[0])


def _size_bytes(path: Path) -> int:
    log = _log_of(path)
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)


def _log_of(path: Path) -> Path:
    """Return where SQLite leaves what a process that was killed had not put into the file yet."""
    return path.with_name(f"{path.name}-wal")
