"""What a connection is given to publish, and what becomes of it. The connection is the test."""

from __future__ import annotations

import json

import pytest

from edgert.frames.result import Result, Tensors
from edgert.publish.dialect import NativeDialect
from edgert.publish.mqtt_feed import ReplayPace, ResultFeed
from edgert.publish.payload import ResultEncoder
from edgert.publish.queued import SinkCounts, SinkQueue
from edgert.publish.ticket import Ticket

FIRST_NS, SECOND_NS = 1_000, 5_000  # when connections began


class MemorySpool:
    """The spool's side towards the feed, without a disk."""

    def __init__(self):
        self.stored, self.forgotten = [], []
        self._next = None

    def put(self, tickets):
        self.stored += tickets

    def begin_replay(self):
        self._next = 0

    def end_replay(self):
        self._next = None

    def take(self):
        waiting = [] if self._next is None else [t for t in self.stored if t.number >= self._next]
        if not waiting:
            return None
        ticket = min(waiting, key=lambda each: each.number)
        self._next = ticket.number + 1
        return Ticket(ticket.number, ticket.result, is_stored=True)

    def done(self, number):
        self.forgotten.append(number)


class Line:
    """A feed with its queue; `now_ns` is the pace's clock."""

    def __init__(self, make_result, spool=None, qos=1, window=20, per_s=1000.0):
        self.now_ns = 10**12
        self.counts = SinkCounts(mono_ns=lambda: 10_000)
        self.spool = spool
        self._make_result = make_result
        self.queue = SinkQueue(10, self.counts, spill=None if spool is None else lambda t: spool.put([t]))
        dialect = NativeDialect("edgert/n/", ResultEncoder("n", "boot"), expiry_s=9)
        pace = ReplayPace(per_s, window, lambda: self.now_ns) if spool else None
        self.feed = ResultFeed("test", qos, self.queue, dialect, self.counts, spool, pace)

    def send(self, *seqs, captured_ns=2_000):
        for seq in seqs:
            self.queue.put(Ticket(seq, self._make_result(seq, captured_mono_ns=captured_ns)))

    def next(self, connected_ns=FIRST_NS):
        message = self.feed.next_message(connected_ns)
        if message is not None:
            self.feed.handed_over(message)
        return message

    def all(self, connected_ns=FIRST_NS):
        return list(iter(lambda: self.next(connected_ns), None))


@pytest.fixture
def line(make_result):
    return Line(make_result)


@pytest.fixture
def spooled(make_result):
    return Line(make_result, MemorySpool())


def numbers(messages):
    return [message.result.seq for message in messages]


def historical(messages):
    return [json.loads(message.payload)["historical"] for message in messages]


# Without a spool


def test_results_become_messages_in_order(line):
    line.send(1, 2)
    [one, other] = line.all()
    assert (one.topic, one.qos, one.is_retained) == ("edgert/n/source/porch/result/detector", 1, False)
    assert (one.content_type, one.expiry_s) == ("application/json", 9)
    assert numbers([one, other]) == [1, 2]
    assert historical([one, other]) == [False, False]


def test_what_was_captured_before_the_connection_is_historical(line):
    line.send(1, captured_ns=999)
    assert historical(line.all()) == [True]


def test_an_unfinished_result_comes_first_on_the_next_connection_as_historical(line):
    line.send(1, 2, 3)
    one, two = line.next(), line.next()
    line.feed.acknowledged(one)
    line.feed.take_back([two])
    again = line.all(SECOND_NS)
    assert numbers(again) == [2, 3]
    assert historical(again) == [True, True]
    assert [message.is_counted for message in again] == [True, True]


def test_how_often_a_result_broke_a_connection_is_remembered(line):
    line.send(1)
    message = line.next()
    message.breaks = 3
    line.feed.take_back([message])
    assert line.next(SECOND_NS).breaks == 3


def test_it_is_finished_once_nothing_waits(line):
    line.send(1)
    message = line.next()
    line.queue.close()
    line.feed.take_back([message])
    assert not line.feed.is_finished
    line.next(SECOND_NS)
    assert line.feed.is_finished


def test_what_is_given_up_is_counted(line):
    line.send(1, 2, 3)
    line.feed.take_back([line.next()])
    line.queue.close()
    line.feed.discard()
    assert line.counts.dropped.snapshot() == {"closed": 3}
    assert line.feed.is_finished


def test_a_result_that_cannot_be_encoded_stops_no_other(line, make_result):
    line.queue.put(Ticket(1, make_result(1, output=Tensors({"x": None}))))
    line.queue.put(Ticket(2, make_result(2, source="a/b")))
    line.send(3)
    assert numbers(line.all()) == [3]
    assert line.counts.failed == 2


def test_refusals_and_sizes_are_counted(line):
    line.send(1, 2)
    one, other = line.all()
    line.feed.refused(one, "no")
    line.feed.too_large(other, 10)
    assert line.counts.refused == 1
    assert line.counts.dropped.snapshot() == {"too_large": 1}


def test_with_qos_0_nothing_is_kept_for_an_answer(make_result):
    line = Line(make_result, qos=0)
    line.send(1)
    line.all()
    assert line.feed._tickets == {}


# With a spool


def test_live_results_go_before_stored_ones(spooled, make_result):
    spooled.spool.put([Ticket(1, make_result(1)), Ticket(2, make_result(2))])
    spooled.send(3)
    messages = spooled.all()
    assert numbers(messages) == [3, 1, 2]
    assert historical(messages) == [False, True, True]


def test_stored_results_are_forgotten_when_the_broker_has_them(spooled, make_result):
    spooled.spool.put([Ticket(1, make_result(1))])
    [message] = spooled.all()
    assert spooled.spool.forgotten == []
    spooled.feed.acknowledged(message)
    assert spooled.spool.forgotten == [1]


@pytest.mark.parametrize("end", ["refused", "too_large"])
def test_stored_results_that_the_broker_never_takes_are_forgotten_too(spooled, make_result, end):
    spooled.spool.put([Ticket(1, make_result(1))])
    [message] = spooled.all()
    getattr(spooled.feed, end)(message, *({"refused": ["no"], "too_large": [10]}[end]))
    assert spooled.spool.forgotten == [1]


def test_a_broken_connection_leaves_unfinished_live_results_to_the_disk(spooled, make_result):
    spooled.spool.put([Ticket(1, make_result(1))])
    spooled.send(2, 3)
    messages = spooled.all()
    assert numbers(messages) == [2, 3, 1]
    spooled.feed.take_back(messages)
    assert [ticket.number for ticket in spooled.spool.stored] == [1, 2, 3]
    spooled.now_ns += 10**9
    again = spooled.all(SECOND_NS)
    assert numbers(again) == [1, 2, 3]
    assert historical(again) == [True, True, True]
    assert again[0].is_counted  # it was handed over before


def test_stored_results_leave_half_of_the_window_to_live_ones(make_result):
    line = Line(make_result, MemorySpool(), window=6, per_s=1e9)
    line.spool.put([Ticket(number, make_result(number)) for number in range(10)])
    first = line.all()
    assert numbers(first) == [0, 1, 2]
    line.feed.acknowledged(first[0])
    assert numbers(line.all()) == [3]


def test_stored_results_keep_their_pace(make_result):
    line = Line(make_result, MemorySpool(), window=1000, per_s=100.0)
    line.spool.put([Ticket(number, make_result(number)) for number in range(200)])
    assert len(line.all()) == 51  # what half a second lets it make up for, and one
    line.now_ns += 100_000_000
    assert len(line.all()) == 10


def test_what_finds_no_room_in_the_queue_goes_to_the_disk(spooled):
    spooled.send(*range(15))
    assert [ticket.number for ticket in spooled.spool.stored] == [0, 1, 2, 3, 4]
    assert spooled.counts.dropped.snapshot() == {}


def test_what_is_given_up_goes_to_the_disk(spooled):
    spooled.send(1, 2)
    spooled.queue.close()
    spooled.feed.discard()
    assert [ticket.number for ticket in spooled.spool.stored] == [1, 2]
    assert spooled.feed.is_finished


def test_the_disk_is_not_waited_for(spooled, make_result):
    spooled.spool.put([Ticket(1, make_result(1))])
    spooled.queue.close()
    assert spooled.feed.is_finished


def test_results_are_told_apart_by_what_they_are(make_result):
    """Two results with equal fields, as a source that restarted makes, are two."""
    line = Line(make_result)
    line.send(1, 1)
    messages = line.all()
    assert isinstance(messages[0].result, Result)
    assert len(line.feed._tickets) == 2


def test_a_stored_result_that_comes_again_is_counted_once(spooled, make_result):
    spooled.spool.put([Ticket(1, make_result(1))])
    messages = spooled.all()
    spooled.feed.take_back(messages)
    spooled.now_ns += 10**9
    spooled.all(SECOND_NS)
    assert spooled.counts.sent == 1


def test_with_a_broker_of_qos_0_a_stored_result_is_forgotten_when_it_is_out(spooled, make_result, caplog):
    spooled.spool.put([Ticket(1, make_result(1))])
    message = spooled.feed.next_message(FIRST_NS)
    message.qos = 0  # as the connection does where the broker takes no more
    spooled.feed.handed_over(message)
    assert spooled.spool.forgotten == [1]
    assert "takes QoS 0 only" in caplog.text


def test_what_is_known_of_results_that_the_disk_has_dropped_is_forgotten(spooled, make_result):
    spooled.spool.put([Ticket(number, make_result(number)) for number in range(5)])
    spooled.feed.take_back(spooled.all())
    spooled.spool.stored = [ticket for ticket in spooled.spool.stored if ticket.number == 4]
    spooled.now_ns += 10**9
    assert numbers(spooled.all(SECOND_NS)) == [4]
    assert spooled.feed._again == {}
