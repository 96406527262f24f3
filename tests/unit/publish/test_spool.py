"""The spool's thread, on a real file. `settled` waits until it has done what it was given."""

from __future__ import annotations

import os
import threading
import time

import pytest

from edgert.errors import SinkError
from edgert.publish import spool as module
from edgert.publish import spool_rows
from edgert.publish.options import SpoolOptions
from edgert.publish.spool import Spool
from edgert.publish.spool_file import SANE_UTC_NS, SpoolFile
from edgert.publish.ticket import Ticket

TIMEOUT_S = 10.0
MB = 1_000_000
NOW_NS = SANE_UTC_NS + 1_000_000 * 1_000_000_000


class Rig:
    """A spool in a folder; `again` is the next start of the process."""

    def __init__(self, folder, make_result, max_bytes=MB):
        self._folder = folder
        self._make_result = make_result
        self._max_bytes = max_bytes
        self.open()

    def open(self, boot="boot-1"):
        self.file = SpoolFile(self._folder / "spool", self._max_bytes)
        options = SpoolOptions(flush_s=0.05)
        self.spool = Spool("test", self.file, options, boot, lambda: NOW_NS)
        self.next_number = self.spool.open()

    def again(self):
        self.spool.close(TIMEOUT_S)
        self.open("boot-2")

    def ticket(self, seq, **fields):
        ticket = Ticket(self.next_number, self._make_result(seq, captured_utc_ns=NOW_NS, **fields))
        self.next_number += 1
        return ticket

    def put(self, *seqs):
        self.spool.put([self.ticket(seq) for seq in seqs])

    def take(self, count):
        """Return the seqs of the next results, waiting for the disk."""
        return [ticket.result.seq for ticket in self.tickets(count)]

    def tickets(self, count):
        found, deadline = [], time.monotonic() + TIMEOUT_S
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} came"
            ticket = self.spool.take()
            if ticket is None:
                time.sleep(0.002)
            else:
                found.append(ticket)
        return found

    def settled(self, count):
        """Wait until so many results are on disk."""
        backlog = self.spool._backlog
        wait_for(lambda: not self.spool._pending and not backlog.to_delete() and self.file.count == count)


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def rig(tmp_path, make_result):
    rig = Rig(tmp_path, make_result)
    yield rig
    rig.spool.close(TIMEOUT_S)


def test_results_come_back_in_order(rig):
    rig.put(1, 2, 3)
    rig.settled(3)
    rig.spool.begin_replay()
    assert rig.take(3) == [1, 2, 3]


def test_more_than_is_read_ahead_comes_back_whole_and_once(rig):
    rig.put(*range(1000))
    rig.settled(1000)
    rig.spool.begin_replay()
    assert rig.take(1000) == list(range(1000))
    time.sleep(0.12)
    assert rig.spool.take() is None


def test_nothing_comes_while_there_is_no_connection(rig):
    rig.put(1)
    rig.settled(1)
    assert rig.spool.take() is None


def test_what_the_broker_has_is_forgotten(rig):
    rig.put(1, 2, 3)
    rig.settled(3)
    rig.spool.begin_replay()
    for ticket in rig.tickets(2):
        rig.spool.done(ticket.number)
    rig.settled(1)
    rig.again()
    rig.spool.begin_replay()
    assert rig.take(1) == [3]


def test_what_was_not_acknowledged_comes_again_on_the_next_connection(rig):
    rig.put(*range(10))
    rig.settled(10)
    rig.spool.begin_replay()
    first = rig.tickets(4)
    rig.spool.done(first[0].number)
    rig.spool.end_replay([])
    assert rig.spool.take() is None
    rig.spool.begin_replay()
    again = rig.tickets(9)
    assert [ticket.result.seq for ticket in again] == list(range(1, 10))
    assert again[:3] == first[1:]  # not restored again, and what is known of them is kept


def test_a_result_that_was_handed_in_late_is_not_passed_over(rig):
    late, later = rig.ticket(0), rig.ticket(1)
    rig.put(2, 3)
    rig.settled(2)
    rig.spool.begin_replay()
    assert rig.take(2) == [2, 3]
    rig.spool.put([later, late])
    assert rig.take(2) == [0, 1]


def test_the_next_start_goes_on_with_numbers_and_keeps_the_boot(rig):
    rig.put(1, 2)
    rig.settled(2)
    before = rig.next_number
    rig.again()
    assert rig.next_number == before
    rig.put(3)
    rig.settled(3)
    rig.spool.begin_replay()
    assert [(t.result.seq, t.result.boot) for t in rig.tickets(3)] == [
        (1, "boot-1"),
        (2, "boot-1"),
        (3, "boot-2"),
    ]


def test_closing_writes_what_is_pending(rig):
    rig.put(*range(50))
    rig.again()
    assert rig.file.count == 50


def test_what_waits_elsewhere_is_collected(rig):
    waiting = [rig.ticket(5)]
    rig.spool.collect = lambda: [waiting.pop()] if waiting else []
    rig.settled(1)


def test_beyond_the_budget_the_oldest_are_counted_as_lost(tmp_path, make_result):
    rig = Rig(tmp_path, make_result, max_bytes=2000)
    rig.put(*range(100))
    wait_for(lambda: rig.spool.statistics().stored == 100)
    kept = rig.file.count
    assert 5 < kept < 50
    assert rig.spool.statistics().dropped == {"over_budget": 100 - kept}
    rig.spool.begin_replay()
    assert rig.take(kept) == list(range(100 - kept, 100))
    rig.spool.close(TIMEOUT_S)


def test_a_disk_that_does_not_keep_up_is_counted(rig, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    rig.spool.put([rig.ticket(seq) for seq in range(5)])
    rig.settled(3)
    assert rig.spool.statistics().dropped == {"slow_disk": 2}
    rig.spool.begin_replay()
    assert rig.take(3) == [2, 3, 4]


def test_while_a_disk_fails_memory_keeps_results(rig, monkeypatch):
    def fail(rows):
        raise SinkError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rig.file, "append", fail)
        rig.put(1, 2)
        wait_for(lambda: rig.spool._is_failing)
        rig.put(3)
        collected = []
        rig.spool.collect = lambda: collected.append(1) or []
        time.sleep(0.2)
        assert not collected  # they are as well where they are
    rig.settled(3)
    assert rig.spool.statistics().dropped == {}
    rig.spool.begin_replay()
    assert rig.take(3) == [1, 2, 3]


def test_a_disk_that_fails_for_long_loses_the_oldest_counted(rig, monkeypatch):
    def fail(rows):
        raise SinkError("database or disk is full")

    monkeypatch.setattr(module, "MAX_PENDING", 3)
    with monkeypatch.context() as patch:
        patch.setattr(rig.file, "append", fail)
        rig.put(1, 2)
        wait_for(lambda: rig.spool._is_failing)
        rig.put(3, 4, 5)
        wait_for(lambda: rig.spool.statistics().dropped == {"disk_failed": 2})
    rig.settled(3)
    rig.spool.begin_replay()
    assert rig.take(3) == [3, 4, 5]


def test_what_the_broker_has_is_forgotten_also_when_nothing_can_be_written(rig, monkeypatch):
    def fail(rows):
        raise SinkError("database or disk is full")

    rig.put(1, 2)
    rig.settled(2)
    rig.spool.begin_replay()
    tickets = rig.tickets(2)
    monkeypatch.setattr(rig.file, "append", fail)
    rig.put(3)
    for ticket in tickets:
        rig.spool.done(ticket.number)
    wait_for(lambda: rig.file.count == 0)


def test_a_damaged_file_that_cannot_be_moved_ends_nothing(tmp_path, make_result, monkeypatch):
    (tmp_path / "spool").write_bytes(os.urandom(10_000))

    def refuse(self):
        raise SinkError("cannot be moved: Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(SpoolFile, "set_aside", refuse)
        rig = Rig(tmp_path, make_result)
        rig.put(1)
        wait_for(lambda: rig.spool._is_failing)
    wait_for(lambda: rig.file.count == 1)
    rig.spool.close(TIMEOUT_S)


def test_it_may_be_closed_before_it_is_open(tmp_path):
    Spool("test", SpoolFile(tmp_path / "spool", MB), SpoolOptions(), "boot").close(TIMEOUT_S)


def test_a_file_damaged_before_the_start_is_set_aside(tmp_path, make_result):
    (tmp_path / "spool").write_bytes(os.urandom(10_000))
    rig = Rig(tmp_path, make_result)
    rig.put(1)
    rig.settled(1)
    assert rig.spool.statistics().set_aside == 1
    assert (tmp_path / "spool.damaged").stat().st_size == 10_000
    rig.spool.close(TIMEOUT_S)


def test_a_file_damaged_while_open_is_set_aside_and_its_results_counted(tmp_path, make_result):
    rig = Rig(tmp_path, make_result, max_bytes=20 * MB)
    for start in range(0, 10_000, 2_500):  # more than SQLite keeps in memory
        rig.put(*range(start, start + 2_500))
        rig.settled(start + 2_500)
    rig.spool.close(TIMEOUT_S)
    rig.open()
    with (tmp_path / "spool").open("r+b") as raw:
        raw.seek(4096)
        raw.write(os.urandom((tmp_path / "spool").stat().st_size - 4096))
    rig.spool.begin_replay()
    wait_for(lambda: not rig.spool.take() and rig.spool.statistics().set_aside == 1)
    assert rig.spool.statistics().dropped == {"damaged": 10_000}
    rig.put(1)
    rig.settled(1)
    rig.spool.close(TIMEOUT_S)


def test_a_row_that_is_no_result_is_counted_and_removed(rig):
    rig.put(1)
    rig.settled(1)
    rig.spool.close(TIMEOUT_S)
    rig.file.open()
    rig.file.append([(2, NOW_NS, b"noise")])
    rig.file.close()
    rig.open()
    rig.spool.begin_replay()
    assert rig.take(1) == [1]
    wait_for(lambda: rig.spool.take() is None and rig.file.count == 1)
    assert rig.spool.statistics().dropped == {"damaged": 1}


def test_too_old_results_expire(tmp_path, make_result):
    rig = Rig(tmp_path, make_result)
    rig.put(1)
    old = rig.ticket(0)
    old.result.captured_utc_ns = NOW_NS - 8 * 86_400 * 1_000_000_000
    rig.spool.put([old])
    wait_for(lambda: rig.spool.statistics().dropped == {"expired": 1})
    rig.settled(1)
    rig.spool.close(TIMEOUT_S)


def test_nothing_is_written_while_there_is_nothing_to_write(rig, tmp_path):
    rig.put(1)
    rig.settled(1)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    time.sleep(0.3)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def full(tmp_path, make_result):
    """Return a rig whose disk is full of results, on a connection, and how many there are."""
    rig = Rig(tmp_path, make_result, max_bytes=2000)
    rig.put(*range(100))
    wait_for(lambda: rig.spool.statistics().stored == 100)
    rig.spool.begin_replay()
    wait_for(lambda: rig.spool.has_next(1))
    return rig, rig.file.count


def put_and_wait(rig, *seqs):
    stored = rig.spool.statistics().stored + len(seqs)
    rig.put(*seqs)
    wait_for(lambda: rig.spool.statistics().stored == stored and not rig.spool._pending)
    time.sleep(0.02)  # and counted


def test_what_the_budget_takes_while_it_is_read_ahead_is_not_sent(tmp_path, make_result):
    rig, kept = full(tmp_path, make_result)
    put_and_wait(rig, 100, 101, 102)
    assert rig.spool.statistics().dropped == {"over_budget": 103 - kept}
    assert rig.take(kept) == list(range(103 - kept, 103))
    rig.spool.close(TIMEOUT_S)


@pytest.mark.parametrize("breaks", [False, True])
def test_what_the_budget_takes_while_it_is_in_flight_is_lost_only_with_the_connection(
    tmp_path, make_result, breaks
):
    rig, kept = full(tmp_path, make_result)
    in_flight = rig.tickets(2)
    put_and_wait(rig, 100, 101, 102)
    assert rig.spool.statistics().dropped == {"over_budget": 103 - kept - 2}
    if not breaks:
        for ticket in in_flight:
            rig.spool.done(ticket.number)
    rig.spool.end_replay([])
    rig.spool.begin_replay()
    assert rig.take(kept) == list(range(103 - kept, 103))
    rig.spool.close(TIMEOUT_S)
    assert rig.spool.statistics().dropped == {"over_budget": 103 - kept - (0 if breaks else 2)}


def test_reading_ahead_forces_no_write(rig, monkeypatch):
    rig.put(*range(1000))
    rig.settled(1000)
    rig.spool._flush_ns = 10**12
    rig.spool.begin_replay()
    rig.tickets(1)
    deletions = []
    monkeypatch.setattr(rig.file, "delete", deletions.append)
    for ticket in rig.tickets(999):
        rig.spool.done(ticket.number)
    assert deletions == []


def test_results_are_restored_by_who_takes_them(rig, monkeypatch):
    restored = []
    usual = spool_rows.restore_result

    def restore(data, *clocks):
        restored.append(threading.current_thread())
        return usual(data, *clocks)

    monkeypatch.setattr(spool_rows, "restore_result", restore)
    rig.put(1, 2, 3)
    rig.settled(3)
    rig.spool.begin_replay()
    wait_for(lambda: rig.spool.has_next(1))
    assert restored == []
    rig.take(2)
    assert restored == [threading.current_thread()] * 2


def test_it_says_when_there_is_something_to_take(rig):
    told = threading.Event()
    rig.spool.on_ahead = told.set
    rig.spool.begin_replay()
    rig.put(1, 2)
    assert told.wait(TIMEOUT_S)
    assert rig.spool.has_next(1)
    rig.take(1)
    assert not rig.spool.has_next(1)  # as many as that are in flight
    assert rig.spool.has_next(2)


def test_an_unstorable_result_is_counted_once_also_while_the_disk_fails(rig, monkeypatch):
    attempts = []

    def fail(rows):
        attempts.append(len(rows))
        raise SinkError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(rig.file, "append", fail)
        rig.spool.put([rig.ticket(1), rig.ticket(2, output=None)])
        wait_for(lambda: len(attempts) >= 3)
    rig.settled(1)
    assert set(attempts) == {1}
    assert rig.spool.statistics().dropped == {"unstorable": 1}


def test_closing_says_how_many_are_left(rig):
    rig.put(*range(50))
    assert rig.spool.close(TIMEOUT_S) == 50
    assert rig.spool.close(TIMEOUT_S) == 0
