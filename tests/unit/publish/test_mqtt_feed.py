"""What a connection is given to publish, and what becomes of it. The connection is the test."""

from __future__ import annotations

import json

import pytest

from edgert.frames.result import Tensors
from edgert.publish.dialect import NativeDialect
from edgert.publish.mqtt_feed import ResultFeed
from edgert.publish.payload import ResultEncoder
from edgert.publish.queued import SinkCounts, SinkQueue
from edgert.publish.replay_pace import ReplayPace
from edgert.publish.session import Message
from edgert.publish.ticket import Ticket

FIRST_NS, SECOND_NS = 1_000, 5_000  # when connections began


class MemorySpool:
    """The spool's side towards the feed, without a disk: all is read ahead at once."""

    def __init__(self):
        self.stored = {}  # tickets by number
        self.forgotten = []
        self._in_flight = set()
        self._waiting = []  # numbers, for the connection that is there

    def put(self, tickets):
        self.stored.update((ticket.number, ticket) for ticket in tickets)

    def begin_replay(self):
        self._waiting = sorted(self.stored)

    def end_replay(self, unfinished):
        self._in_flight.clear()
        self._waiting.clear()
        self.put(unfinished)

    def has_next(self, most):
        return bool(self._waiting) and len(self._in_flight) < most

    def take(self):
        if not self._waiting:
            return None
        number = self._waiting.pop(0)
        self._in_flight.add(number)
        return self.stored[number]

    def done(self, number):
        if number in self._in_flight:
            self._in_flight.remove(number)
            self.forgotten.append(number)


class Line:
    """A feed with its queue; `now_ns` is the pace's clock."""

    def __init__(self, make_result, spool=None, qos=1, per_s=1000.0, dialect=None):
        self.now_ns = 10**12
        self.counts = SinkCounts(mono_ns=lambda: 10_000)
        self.spool = spool
        self._make_result = make_result
        self.queue = SinkQueue(10, self.counts, spill=None if spool is None else lambda t: spool.put([t]))
        dialect = dialect or NativeDialect("edgert/n/", ResultEncoder("n", "boot"), expiry_s=9)
        pace = ReplayPace(per_s, lambda: self.now_ns) if spool else None
        self.feed = ResultFeed("test", qos, self.queue, dialect, self.counts, spool, pace)

    def connect(self, connected_ns=FIRST_NS, inflight=20):
        self.feed.connected(connected_ns, inflight)

    def send(self, *seqs, captured_ns=2_000):
        for seq in seqs:
            self.queue.put(Ticket(seq, self._make_result(seq, captured_mono_ns=captured_ns)))

    def store(self, *seqs):
        self.spool.put([Ticket(seq, self._make_result(seq)) for seq in seqs])

    def next(self):
        """Return what a connection with room would publish next."""
        message = self.feed.next_message() or self.feed.next_stored()
        if message is not None:
            self.feed.handed_over(message)
        return message

    def all(self):
        return list(iter(self.next, None))


class TwoWords:
    """A dialect that says two messages for a result, as Sparkplug does with a new source."""

    def result(self, result, *, historical, qos):
        return [Message("birth", b"%d" % result.seq), Message("data", b"%d" % result.seq, qos)]


@pytest.fixture
def line(make_result):
    line = Line(make_result)
    line.connect()
    return line


@pytest.fixture
def spooled(make_result):
    """Two results are stored."""
    line = Line(make_result, MemorySpool())
    line.store(1, 2)
    line.connect()
    return line


def numbers(messages):
    return [message.ticket.result.seq for message in messages]


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
    line.connect(SECOND_NS)
    again = line.all()
    assert numbers(again) == [2, 3]
    assert historical(again) == [True, True]
    assert again[0].ticket is two.ticket
    assert line.counts.sent == 3  # and not 4


def test_with_qos_0_what_is_half_out_is_not_sent_again(make_result):
    line = Line(make_result, qos=0)
    line.connect()
    line.send(1)
    line.feed.take_back(line.all())
    line.connect(SECOND_NS)
    assert line.all() == []


def test_a_result_that_was_about_to_be_published_comes_again(make_result):
    line = Line(make_result, dialect=TwoWords())
    line.connect()
    line.send(1)
    assert line.next().payload == b"1"
    assert line.feed.is_midway
    line.feed.take_back([])
    assert not line.feed.is_midway
    line.connect(SECOND_NS)
    assert [message.topic for message in line.all()] == ["birth", "data"]


def test_it_is_finished_once_nothing_waits(line):
    line.send(1)
    message = line.next()
    line.queue.close()
    line.feed.take_back([message])
    assert not line.feed.is_finished
    line.next()
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


def test_results_are_told_apart_by_what_they_are(line):
    """Two results with equal fields, as a source that restarted makes, are two."""
    line.send(1, 1)
    one, other = line.all()
    assert one.ticket is not other.ticket
    line.feed.acknowledged(one)
    line.feed.take_back([other])
    line.connect(SECOND_NS)
    assert [message.ticket for message in line.all()] == [other.ticket]


# With a spool


def test_live_results_go_before_stored_ones(spooled):
    spooled.send(3)
    messages = spooled.all()
    assert numbers(messages) == [3, 1, 2]
    assert historical(messages) == [False, True, True]


def test_stored_results_are_forgotten_when_the_broker_has_them(spooled):
    one, _ = spooled.all()
    assert spooled.spool.forgotten == []
    spooled.feed.acknowledged(one)
    assert spooled.spool.forgotten == [1]


@pytest.mark.parametrize("end", ["refused", "too_large"])
def test_stored_results_that_the_broker_never_takes_are_forgotten_too(spooled, end):
    one, _ = spooled.all()
    getattr(spooled.feed, end)(one, *({"refused": ["no"], "too_large": [10]}[end]))
    assert spooled.spool.forgotten == [1]


def test_a_stored_result_that_cannot_be_encoded_stops_no_other(spooled, make_result):
    spooled.spool.stored[1].result.source = "a/b"
    assert spooled.next() is None
    assert numbers(spooled.all()) == [2]
    assert (spooled.counts.failed, spooled.spool.forgotten) == (1, [1])


def test_a_broken_connection_leaves_unfinished_live_results_to_the_disk(spooled):
    spooled.send(3, 4)
    messages = spooled.all()
    assert numbers(messages) == [3, 4, 1, 2]
    spooled.feed.take_back(messages)
    assert sorted(spooled.spool.stored) == [1, 2, 3, 4]
    spooled.now_ns += 10**9
    spooled.connect(SECOND_NS)
    again = spooled.all()
    assert numbers(again) == [1, 2, 3, 4]
    assert historical(again) == [True] * 4
    assert spooled.counts.sent == 4  # and not 8


@pytest.mark.parametrize(("inflight", "most"), [(1, 1), (6, 3), (7, 3), (1000, 10)])
def test_stored_results_leave_half_of_what_the_broker_allows_to_live_ones(make_result, inflight, most):
    line = Line(make_result, MemorySpool(), per_s=1e9)
    line.store(*range(10))
    line.connect(inflight=inflight)
    first = line.all()
    assert numbers(first) == list(range(most))
    assert line.feed.stored_due_s() is None  # an acknowledgement comes first
    line.feed.acknowledged(first[0])
    assert numbers(line.all()) == list(range(most, min(10, most + 1)))


def test_stored_results_keep_their_pace(make_result):
    line = Line(make_result, MemorySpool(), per_s=500.0)
    line.store(*range(200))
    line.connect(inflight=1000)
    line.all()
    line.now_ns += 500_000
    assert line.feed.stored_due_s() == pytest.approx(0.0015)
    for _ in range(10):
        assert line.all() == []
        line.now_ns += 1_500_000
        assert len(line.all()) == 1
        line.now_ns += 500_000


def test_only_a_little_is_made_up_for_after_a_late_wake(make_result):
    line = Line(make_result, MemorySpool(), per_s=500.0)
    line.store(*range(1000))
    line.connect(inflight=10_000)
    line.now_ns += 10**10
    assert len(line.all()) == 11  # 20 ms worth, and the one that is due


def test_what_is_stored_wakes_a_connection_in_time(spooled):
    assert spooled.feed.stored_due_s() == 0.0
    assert numbers(spooled.all()) == [1, 2]
    assert spooled.feed.stored_due_s() is None  # nothing is read ahead


def test_without_a_spool_nothing_stored_is_ever_due(line):
    assert line.feed.stored_due_s() is None
    assert line.feed.next_stored() is None


def test_nothing_comes_between_the_messages_of_a_stored_result(make_result):
    line = Line(make_result, MemorySpool(), dialect=TwoWords())
    line.store(1, 2)
    line.connect()
    assert line.feed.next_stored().topic == "birth"
    line.send(3)
    assert line.feed.is_midway
    assert line.feed.next_stored() is None
    said = [line.feed.next_message() for _ in range(3)]
    assert [(each.topic, each.payload) for each in said] == [("data", b"1"), ("birth", b"3"), ("data", b"3")]
    assert not line.feed.is_midway


def test_what_finds_no_room_in_the_queue_goes_to_the_disk(spooled):
    spooled.send(*range(10, 25))
    assert sorted(spooled.spool.stored) == [1, 2, 10, 11, 12, 13, 14]
    assert spooled.counts.dropped.snapshot() == {}


def test_what_is_given_up_goes_to_the_disk(spooled):
    spooled.send(3, 4)
    spooled.queue.close()
    spooled.feed.discard()
    assert sorted(spooled.spool.stored) == [1, 2, 3, 4]
    assert spooled.feed.is_finished


def test_the_disk_is_not_waited_for(spooled):
    spooled.queue.close()
    assert spooled.feed.is_finished


def test_with_a_broker_of_qos_0_a_stored_result_is_forgotten_when_it_is_out(spooled, caplog):
    message = spooled.feed.next_stored()
    message.qos = 0  # as the connection does where the broker takes no more
    spooled.feed.handed_over(message)
    assert spooled.spool.forgotten == [1]
    assert "takes QoS 0 only" in caplog.text
    spooled.feed.take_back([message])
    assert spooled.spool.forgotten == [1]
