from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgert.errors import ConfigError, SinkError
from edgert.publish import spool_file as module
from edgert.publish.spool_file import (
    EXPIRE_ROWS,
    ROW_BYTES,
    SANE_UTC_NS,
    SpoolDamagedError,
    SpoolFile,
    runs,
)

DATA = b"x" * 100
ROW = len(DATA) + ROW_BYTES
MB = 1_000_000


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "results.spool"


@pytest.fixture
def file(path):
    file = SpoolFile(path, MB)
    file.open()
    yield file
    file.close()


def rows(numbers, utc_ns=SANE_UTC_NS + 1):
    return [(number, utc_ns, DATA) for number in numbers]


def numbers(file):
    return [number for number, _ in file.after(0, 100_000)]


def test_what_was_appended_comes_back_in_order_also_after_a_close(file, path):
    file.append(rows([3, 1, 2]))
    assert file.after(0, 2) == [(1, DATA), (2, DATA)]
    file.close()
    file.open()
    assert numbers(file) == [1, 2, 3]
    assert (file.count, file.size_bytes, file.last_number()) == (3, 3 * ROW, 3)


def test_deleted_rows_are_gone_and_their_bytes_free(file):
    file.append(rows(range(1, 6)))
    file.delete([2, 4, 99])
    assert numbers(file) == [1, 3, 5]
    assert (file.count, file.size_bytes) == (3, 3 * ROW)


def test_runs_of_numbers():
    assert list(runs([])) == []
    assert list(runs([7])) == [(7, 7)]
    assert list(runs([5, 3, 4, 9, 1, 9, 10])) == [(1, 1), (3, 5), (9, 10)]


NUMBERS = st.sets(st.integers(1, 60))


@given(stored=NUMBERS, unwanted=NUMBERS)
@settings(max_examples=50, deadline=None)
def test_what_is_deleted_is_what_was_asked_for_and_nothing_else(stored, unwanted):
    file = SpoolFile(Path(":memory:"), MB)
    file.open()
    file.append(rows(sorted(stored)))
    file.delete(unwanted)
    left = sorted(stored - unwanted)
    assert (numbers(file), file.count, file.size_bytes) == (left, len(left), len(left) * ROW)
    file.close()


def test_rows_in_a_row_are_deleted_by_two_statements(file):
    file.append(rows(range(1, 501)))
    said = []
    file._database.set_trace_callback(said.append)
    file.delete(range(1, 501))
    assert [text.split()[0] for text in said] == ["BEGIN", "SELECT", "DELETE", "COMMIT"]
    assert file.count == 0


def test_beyond_the_budget_the_oldest_go_and_exactly_they(path):
    file = SpoolFile(path, 10 * ROW)
    file.open()
    assert file.append(rows(range(1, 9))) == []
    assert file.append(rows(range(9, 14))) == [1, 2, 3]
    assert numbers(file) == list(range(4, 14))
    assert file.append(rows(range(14, 1014))) == list(range(4, 1004))
    assert numbers(file) == list(range(1004, 1014))
    file.close()


def test_what_comes_late_and_is_older_than_all_others_goes_first(path):
    file = SpoolFile(path, 10 * ROW)
    file.open()
    file.append(rows(range(10, 20)))
    assert file.append(rows([1, 2, 15_000])) == [1, 2, 10]
    assert numbers(file) == [*range(11, 20), 15_000]
    file.close()


@pytest.mark.parametrize("times", [20, 100_000])
def test_a_row_that_is_larger_than_the_budget_is_dropped(path, times):
    file = SpoolFile(path, 10 * ROW)
    file.open()
    assert file.append([(1, SANE_UTC_NS, b"x" * times * ROW), (2, SANE_UTC_NS, DATA)]) == [1]
    assert (numbers(file), file.count, file.size_bytes) == ([2], 1, ROW)
    file.close()


@pytest.mark.parametrize("row_bytes", [60, 1400, 2100, 2700, 5000])
def test_the_file_stays_near_its_budget_and_the_budget_is_used(path, row_bytes):
    """A row of a little over half a page takes a whole one."""
    file, data = SpoolFile(path, MB), b"x" * row_bytes
    file.open()
    for start in range(1, 3 * MB // row_bytes, 100):
        file.append([(number, SANE_UTC_NS, data) for number in range(start, start + 100)])
    assert file.size_bytes > 0.9 * MB
    assert numbers(file)[-1] == file.last_number()
    file.close()
    assert path.stat().st_size < 2.6 * MB


def test_what_is_too_old_expires_but_not_what_has_no_clock(file):
    file.append([(1, 1_000, DATA), (2, SANE_UTC_NS + 10, DATA), (3, SANE_UTC_NS + 30, DATA)])
    assert file.expire(SANE_UTC_NS + 20) == [2]
    assert numbers(file) == [1, 3]


def test_what_is_too_old_expires_a_part_at_a_time(file):
    file.append(rows(range(1, 3 * EXPIRE_ROWS)))
    parts = [file.expire(SANE_UTC_NS + 20) for _ in range(4)]
    assert [len(part) for part in parts] == [EXPIRE_ROWS, EXPIRE_ROWS, EXPIRE_ROWS - 1, 0]
    assert parts[0][0] == 1
    assert (file.count, file.size_bytes) == (0, 0)


def test_what_is_no_blob_comes_as_bytes(file):
    file.append(rows([1, 2]))
    file._database.execute("UPDATE result SET data = CAST(X'ff41' AS TEXT) WHERE number = 1")
    assert file.after(0, 2) == [(1, b"\xffA"), (2, DATA)]


def test_a_second_process_is_told(file, path):
    with pytest.raises(ConfigError, match="in use by another"):
        SpoolFile(path, MB).open()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        SpoolFile(tmp_path / "taken" / "spool", MB).open()


def filled(path):
    file = SpoolFile(path, MB)
    file.open()
    file.append(rows(range(1, 501)))
    file.close()


@pytest.mark.parametrize("damage", ["noise", "text", "truncated", "half noise"])
def test_a_damaged_file_is_told_and_set_aside(path, damage):
    filled(path)
    content = path.read_bytes()
    path.write_bytes(
        {
            "noise": os.urandom(len(content)),
            "text": b"hello",
            "truncated": content[: len(content) // 2 - 7],
            "half noise": content[:8192] + os.urandom(len(content) - 8192),
        }[damage]
    )
    file = SpoolFile(path, MB)
    with pytest.raises(SpoolDamagedError):
        file.open()
    aside = file.set_aside()
    assert aside.exists()
    file.open()
    assert (file.count, numbers(file)) == (0, [])
    file.append(rows([1]))
    file.close()


def test_noise_under_an_open_file_is_noticed_when_it_is_read(file, path):
    file.append(rows(range(1, 5001)))
    file._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file._database.execute("PRAGMA shrink_memory")
    with path.open("r+b") as raw:
        raw.seek(4096)
        raw.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(SpoolDamagedError):
        file.after(0, 5000)
    file.set_aside()


def test_a_full_disk_is_no_damage_and_everything_is_as_before(file):
    """A disk has as many pages as the database may have."""
    file.append(rows([1]))
    pages = file._database.execute("PRAGMA page_count").fetchone()[0]
    file._database.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(SinkError, match="full") as caught:
        file.append(rows(range(2, 1000)))
    assert type(caught.value) is SinkError
    assert (numbers(file), file.count, file.size_bytes) == ([1], 1, ROW)


def test_a_disk_that_turns_read_only_is_no_damage(file):
    file._database.execute("PRAGMA query_only = ON")
    with pytest.raises(SinkError, match="readonly") as caught:
        file.append(rows([1]))
    assert type(caught.value) is SinkError
    file._database.execute("PRAGMA query_only = OFF")
    assert file.append(rows([1])) == []


def coded(code, text):
    """Return what Python 3.11 and later raises."""
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = code
    return error


MISLEADING = "malformed, locked, not a database"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (coded(5, MISLEADING), ConfigError),
        (coded(517, MISLEADING), ConfigError),
        (coded(6, MISLEADING), ConfigError),
        (coded(267, "?"), SpoolDamagedError),
        (coded(26, "?"), SpoolDamagedError),
        (coded(1034, MISLEADING), SinkError),
        (coded(13, MISLEADING), SinkError),
        (sqlite3.OperationalError("database is locked"), ConfigError),
        (sqlite3.DatabaseError("database disk image is malformed"), SpoolDamagedError),
        (sqlite3.DatabaseError("file is not a database"), SpoolDamagedError),
        (sqlite3.OperationalError("database or disk is full"), SinkError),
        (sqlite3.OperationalError("unable to lock: disk I/O error"), SinkError),
    ],
)
def test_codes_decide_and_texts_where_there_is_none(path, error, kind):
    assert type(SpoolFile(path, MB)._translated(error)) is kind


@pytest.mark.parametrize("has_codes", [True, False])
def test_without_codes_the_same_is_found(path, monkeypatch, has_codes):
    """On Python 3.10 errors of a real file have none."""
    found = module._is
    if not has_codes:
        monkeypatch.setattr(
            module, "_is", lambda error, codes, texts: found(Exception(str(error)), (), texts)
        )
    file = SpoolFile(path, MB)
    file.open()
    with pytest.raises(ConfigError, match="in use by another"):
        SpoolFile(path, MB).open()
    file.close()
    path.write_bytes(os.urandom(10_000))
    with pytest.raises(SpoolDamagedError):
        file.open()


def test_another_version_is_not_touched(path):
    path.parent.mkdir()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()
    with pytest.raises(ConfigError, match="is of version 99"):
        SpoolFile(path, MB).open()


def test_after_a_failed_write_everything_is_as_before(file):
    file.append(rows([1]))
    with pytest.raises(SinkError):
        file.append([(2, 0, DATA), (3, None, DATA)])
    assert numbers(file) == [1]
    assert (file.count, file.size_bytes) == (1, ROW)


def test_a_closed_file_says_so(path):
    with pytest.raises(SinkError, match="not open"):
        SpoolFile(path, MB).append(rows([1]))


def test_a_file_that_is_there_is_opened_without_a_write(path):
    filled(path)
    before = path.stat().st_mtime_ns
    file = SpoolFile(path, MB)
    file.open()
    assert file.count == 500
    assert path.stat().st_mtime_ns == before
    file.close()


def test_a_damaged_file_that_cannot_be_moved_is_an_error(path, monkeypatch):
    filled(path)

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(type(path), "replace", refuse)
    with pytest.raises(SinkError, match="cannot be moved"):
        SpoolFile(path, MB).set_aside()
