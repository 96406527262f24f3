"""Where stored results are. The disk and the connection are the test; then a machine that plays all three."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgert.frames.result import Classes, Result
from edgert.publish.backlog import MAX_KNOWN, READ_ROWS, Backlog
from edgert.publish.options import SpoolOptions
from edgert.publish.spool import EXPIRE_S, Spool
from edgert.publish.spool_file import ROW_BYTES, SANE_UTC_NS, SpoolDamagedError, SpoolFile
from edgert.publish.stored_result import store_result
from edgert.publish.ticket import Ticket

S = 1_000_000_000


def ticket(number, captured_utc_ns=0, **fields):
    output = Classes(np.zeros(1, "f4"), np.zeros(1, "i4"), ["cat"])
    return Ticket(number, Result("porch", number, "m", 1, captured_utc_ns, 0, 1, 1, output), **fields)


class Disk:
    """Rows by number, read into a backlog as the spool does it."""

    def __init__(self, numbers=()):
        self.backlog = Backlog()
        self.numbers = set()
        self.write(*numbers)

    def write(self, *numbers):
        self.numbers.update(numbers)
        self.backlog.written([ticket(number) for number in numbers])

    def read(self):
        while (reading := self.backlog.wanted()) is not None:
            found = sorted(number for number in self.numbers if number > reading.after)[: reading.limit]
            self.backlog.read(reading, [(number, b"%d" % number) for number in found])

    def take(self):
        """Return all that is read ahead, as numbers."""
        taken = []
        while (stored := self.backlog.take()) is not None:
            stored.ticket = stored.ticket or ticket(stored.number)
            taken.append(stored.number)
        return taken

    def take_all(self):
        taken = []
        while self.backlog.has_ahead or not taken:
            taken += self.take()
            self.read()
        return taken


@pytest.fixture
def disk():
    """Five results are stored, and a connection is there."""
    disk = Disk(range(1, 6))
    disk.backlog.begin()
    disk.read()
    return disk


def test_nothing_is_read_without_a_connection():
    disk = Disk([1])
    assert disk.backlog.wanted() is None
    assert disk.backlog.take() is None


def test_all_come_in_order_a_few_read_ahead_at_a_time():
    disk = Disk(range(1, 1001))
    disk.backlog.begin()
    disk.read()
    assert len(disk.take()) == READ_ROWS
    disk.read()
    assert disk.take_all() == list(range(READ_ROWS + 1, 1001))


def test_once_all_is_read_nothing_is_read_again_until_something_is_written(disk):
    assert disk.take() == [1, 2, 3, 4, 5]
    assert not disk.backlog.is_low
    disk.write(6)
    assert disk.backlog.is_low
    disk.read()
    assert disk.take() == [6]


def test_what_was_read_for_a_connection_that_broke_is_of_no_use(disk):
    disk.write(6)
    reading = disk.backlog.wanted()
    disk.backlog.end()
    disk.backlog.begin()
    disk.backlog.read(reading, [(6, b"6")])
    assert disk.backlog.take() is None
    disk.read()
    assert disk.take() == [1, 2, 3, 4, 5, 6]


def test_what_is_done_is_to_be_deleted_until_it_is(disk):
    disk.take()
    disk.backlog.done(3)
    disk.backlog.done(1)
    assert disk.backlog.in_flight == 3
    assert disk.backlog.to_delete() == [1, 3]
    disk.backlog.end()
    disk.backlog.begin()
    disk.read()
    assert disk.take() == [2, 4, 5]  # though the rows are still there
    disk.backlog.deleted([1])
    assert disk.backlog.to_delete() == [3]


def test_what_was_never_taken_is_not_done(disk):
    disk.backlog.done(1)
    disk.backlog.done(99)
    assert disk.backlog.to_delete() == []


def test_one_that_was_written_late_comes_before_what_is_read_ahead():
    disk = Disk([10, 20, 30, 40])
    disk.backlog.begin()
    disk.read()
    assert disk.backlog.take().number == 10
    disk.write(5, 25)
    disk.read()
    assert disk.take() == [5, 20, 25, 30, 40]


def test_tickets_of_a_broken_connection_come_again(disk):
    first = disk.backlog.take()
    first.ticket = ticket(1, breaks=2, is_counted=True)
    assert disk.backlog.end() == []
    disk.backlog.begin()
    disk.read()
    assert disk.backlog.take().ticket is first.ticket


def test_a_live_result_that_is_written_keeps_its_ticket_if_there_is_something_to_know():
    disk = Disk()
    known, new = ticket(1, is_counted=True), ticket(2)
    disk.numbers = {1, 2}
    disk.backlog.written([known, new])
    disk.backlog.begin()
    disk.read()
    assert [disk.backlog.take().ticket for _ in range(2)] == [known, None]


def test_tickets_are_bounded():
    disk = Disk()
    disk.backlog.written([ticket(number, is_counted=True) for number in range(2 * MAX_KNOWN)])
    disk.numbers = set(range(2 * MAX_KNOWN))
    disk.backlog.begin()
    known = 0
    for _ in range(2 * MAX_KNOWN):
        disk.read()
        stored = disk.backlog.take()
        known += stored is not None and stored.ticket is not None
    assert known == pytest.approx(MAX_KNOWN, abs=1)


def drop(disk, *numbers):
    disk.numbers -= set(numbers)
    return disk.backlog.dropped(numbers)


def test_what_is_dropped_while_read_ahead_is_lost_and_not_sent(disk):
    assert drop(disk, 1, 2) == 2
    assert disk.take() == [3, 4, 5]


def test_what_is_dropped_while_in_flight_is_not_lost_if_the_broker_takes_it(disk):
    assert disk.backlog.take().number == 1
    assert drop(disk, 1, 2) == 1
    disk.backlog.done(1)
    assert disk.backlog.to_delete() == []  # there is no row
    assert disk.backlog.end() == []


def test_what_is_dropped_while_in_flight_is_put_again_if_the_connection_breaks(disk):
    stored = disk.backlog.take()
    stored.ticket = ticket(1)
    drop(disk, 1)
    assert disk.backlog.end() == [stored.ticket]
    disk.backlog.begin()
    disk.read()
    assert disk.take() == [2, 3, 4, 5]


def test_what_is_dropped_when_the_broker_has_it_is_not_lost(disk):
    disk.take()
    disk.backlog.done(1)
    assert drop(disk, 1) == 0
    assert disk.backlog.to_delete() == []


def test_what_is_known_of_results_that_the_disk_has_dropped_is_forgotten(disk):
    disk.take()
    disk.backlog.end()
    assert drop(disk, 1, 2, 3, 4) == 4
    assert list(disk.backlog._known) == [5]


def test_with_the_file_all_is_lost_but_what_is_in_flight_or_done(disk):
    stored = [disk.backlog.take() for _ in range(3)]
    for each in stored:
        each.ticket = ticket(each.number)
    disk.backlog.done(1)
    assert disk.backlog.all_dropped(5) == 2
    disk.numbers.clear()
    disk.read()
    assert disk.backlog.take() is None
    disk.backlog.done(2)
    assert disk.backlog.to_delete() == []
    assert disk.backlog.end() == [stored[2].ticket]
    assert disk.backlog.all_dropped(0) == 0


NOW_NS = SANE_UTC_NS + 1_000_000 * S
TTL_S = 1000.0
ROWS = 6  # what the budget has room for


class SpoolMachine(RuleBasedStateMachine):
    """A spool on a real file, whose thread is the machine: every result is accounted for, once.

    A result is put, or live on the connection, which takes it back when it breaks.
    """

    @initialize()
    def build(self):
        self.folder = Path(tempfile.mkdtemp())
        self.now_ns = 10**15
        self.numbers = 0
        self.all, self.acknowledged = set(), set()
        self.dropped = 0  # of earlier starts
        self.in_flight, self.live, self.slow = {}, {}, {}
        self.sent, self.late = [], set()  # of this connection
        self.is_connected = False
        self.start()

    def start(self):
        row_bytes = len(store_result(ticket(1, NOW_NS).result, "boot")) + ROW_BYTES
        self.file = SpoolFile(self.folder / "spool", ROWS * (row_bytes + 2))
        options = SpoolOptions(ttl_s=TTL_S)
        clocks = lambda: NOW_NS + self.now_ns, lambda: self.now_ns
        self.spool = Spool("test", self.file, options, "boot", *clocks)
        self.file.open()

    def make(self, age_s=0.0):
        self.numbers += 1
        self.all.add(self.numbers)
        return ticket(self.numbers, NOW_NS + self.now_ns - int(age_s * S))

    @rule(count=st.integers(1, 4), age_s=st.sampled_from([0.0, TTL_S - 30.0]), is_flushed=st.booleans())
    def put(self, count, age_s, is_flushed):
        self.spool.put([self.make(age_s) for _ in range(count)])
        if is_flushed:
            self.spool._flush()

    @rule()
    def make_slow(self):
        """A thread takes its time to hand one in."""
        slow = self.make()
        self.slow[slow.number] = slow

    @precondition(lambda self: self.slow)
    @rule()
    def put_slow(self):
        self.late.update(self.slow)
        self.spool.put(list(self.slow.values()))
        self.slow.clear()
        self.spool._flush()

    @precondition(lambda self: self.in_flight)
    @rule()
    def discard(self):
        """What was about to be published is put, also what was stored already."""
        self.spool.put(list(self.in_flight.values()))

    @rule()
    def turn(self):
        self.spool._turn()

    @rule(by_s=st.sampled_from([0.5, 2.0, EXPIRE_S + 1.0]))
    def let_time_pass(self, by_s):
        self.now_ns += int(by_s * S)
        self.spool._turn()

    @precondition(lambda self: not self.is_connected)
    @rule(is_read=st.booleans())
    def connect(self, is_read):
        self.is_connected = True
        self.sent, self.late = [], set()
        self.spool.begin_replay()
        if is_read:
            self.spool._turn()

    @precondition(lambda self: self.is_connected)
    @rule(keep=st.booleans())
    def break_off(self, keep):
        """What is in flight is unfinished, and known to be so or (about to be published) only here."""
        self.is_connected = False
        unfinished = [*self.live.values(), *self.in_flight.values()]
        for each in unfinished:
            each.is_counted = each.is_counted or keep
        self.spool.end_replay(unfinished if keep else list(self.live.values()))
        self.live.clear()
        self.in_flight.clear()

    @precondition(lambda self: self.is_connected)
    @rule()
    def send_live(self):
        live = self.make()
        self.live[live.number] = live

    @precondition(lambda self: self.is_connected)
    @rule(most=st.integers(1, 6))
    def take(self, most):
        for _ in range(most):
            found = self.spool.take()
            if found is None:
                return
            assert found.number not in self.acknowledged
            assert found.number not in self.sent, "sent twice on one connection"
            is_in_order = not self.sent or found.number > max(self.sent)
            assert is_in_order or found.number in self.late
            self.sent.append(found.number)
            self.in_flight[found.number] = found

    @precondition(lambda self: self.in_flight or self.live)
    @rule(which=st.integers(0, 5))
    def acknowledge(self, which):
        waiting = sorted(self.in_flight | self.live)
        number = waiting[which % len(waiting)]
        self.in_flight.pop(number, None)
        self.live.pop(number, None)
        self.acknowledged.add(number)
        self.spool.done(number)

    @precondition(lambda self: not self.is_connected)
    @rule()
    def restart(self):
        self.finish()
        self.start()

    @precondition(lambda self: self.in_flight)
    @rule()
    def lose_the_file(self):
        self.spool._begin_anew(SpoolDamagedError("the file is damaged"))

    def finish(self):
        self.spool._flush()
        self.spool._flush()
        assert not self.spool._pending
        self.dropped += self.spool.dropped.total()
        self.file.close()

    @invariant()
    def everything_is_accounted_for_once(self):
        if not hasattr(self, "spool"):
            return
        on_disk = {number for number, _ in self.file.after(0, 10_000)}
        pending = [each.number for each in self.spool._pending]
        assert len(pending) == len(set(pending))
        assert not on_disk.intersection(pending)
        assert self.file.count == len(on_disk)
        deletable = set(self.spool._backlog.to_delete())
        assert deletable <= on_disk & self.acknowledged
        assert on_disk & self.acknowledged == deletable
        held = (
            (on_disk - deletable) | set(pending) | self.in_flight.keys() | self.live.keys() | self.slow.keys()
        )
        assert not held & self.acknowledged
        dropped = self.dropped + self.spool.dropped.total()
        assert len(self.all) == len(self.acknowledged) + dropped + len(held)

    def teardown(self):
        if not hasattr(self, "spool"):
            return
        if self.is_connected:
            self.break_off(keep=True)
        self.connect(is_read=True)
        self.put_slow()
        for _ in range(20):
            self.take(most=3)
            for _ in range(3):
                if self.in_flight:
                    self.acknowledge(0)
            self.spool._turn()
        self.finish()
        assert len(self.all) == len(self.acknowledged) + self.dropped, "not all that was held came"
        shutil.rmtree(self.folder)


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
