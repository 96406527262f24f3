"""Queue, counters and the thread that writes."""

from __future__ import annotations

import threading

import pytest

from edgert.errors import ClosedError, SinkError
from edgert.publish import queued
from edgert.publish.payload import ResultEncoder
from edgert.publish.queued import CountingEncoder, DeliveryThread, SinkCounts, SinkQueue

TIMEOUT_S = 10.0


class Writer:
    """Keeps batches. Each write waits for `may_write` and then raises `error`, if there is one."""

    def __init__(self):
        self.batches = []
        self.writing = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()
        self.error = None

    def write(self, batch):
        self.writing.set()
        assert self.may_write.wait(TIMEOUT_S)
        if self.error:
            raise self.error
        self.batches.append(batch)


class Line:
    """Everything between `put` and `write`."""

    def __init__(self, capacity=100, encode=lambda result: result.seq, now_ns=5_000):
        self.counts = SinkCounts(mono_ns=lambda: now_ns)
        self.queue = SinkQueue(capacity, self.counts)
        self.writer = Writer()
        self.thread = DeliveryThread("test", self.queue, self.counts, encode, self.writer.write)

    def statistics(self):
        return self.queue.statistics(is_connected=True)


def test_everything_queued_is_written_in_order_before_the_thread_stops(make_result):
    line = Line()
    for seq in range(5):
        line.queue.put(make_result(seq))
    line.thread.start()
    line.thread.stop(TIMEOUT_S)
    assert line.writer.batches == [[0, 1, 2, 3, 4]]
    assert line.statistics().sent == 5


def test_latency_is_from_capture_to_the_end_of_the_write(make_result):
    line = Line(now_ns=7_000_000)
    line.queue.put(make_result(captured_mono_ns=2_000_000))
    line.thread.start()
    line.thread.stop(TIMEOUT_S)
    assert line.statistics().latency.max_ms == 5.0


def test_while_a_write_takes_long_the_oldest_are_dropped_and_counted(make_result):
    line = Line(capacity=2)
    line.writer.may_write.clear()
    line.thread.start()
    line.queue.put(make_result(0))
    assert line.writer.writing.wait(TIMEOUT_S)
    for seq in range(1, 6):
        line.queue.put(make_result(seq))
    line.writer.may_write.set()
    line.thread.stop(TIMEOUT_S)
    assert line.writer.batches == [[0], [4, 5]]
    statistics = line.statistics()
    assert (statistics.sent, statistics.dropped) == (3, {"queue_full": 3})


def test_a_failed_write_is_counted_and_the_next_is_tried(make_result, caplog):
    line = Line()
    line.writer.error = SinkError("disk full")
    line.writer.may_write.clear()
    line.queue.put(make_result(0))
    line.queue.put(make_result(1))
    line.thread.start()
    assert line.writer.writing.wait(TIMEOUT_S)
    line.queue.put(make_result(2))
    line.writer.may_write.set()
    line.thread.stop(TIMEOUT_S)
    statistics = line.statistics()
    assert (statistics.sent, statistics.failed) == (0, 3)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == ["Sink test: disk full"]


def test_an_item_that_cannot_be_encoded_takes_no_other_with_it(make_result):
    line = Line(encode=lambda result: None if result.seq == 1 else result.seq)
    for seq in range(3):
        line.queue.put(make_result(seq))
    line.thread.start()
    line.thread.stop(TIMEOUT_S)
    assert line.writer.batches == [[0, 2]]


def test_a_write_that_gives_up_counts_what_is_left_as_dropped(make_result):
    line = Line()
    line.writer.may_write.clear()
    line.queue.put(make_result(0))
    line.thread.start()
    assert line.writer.writing.wait(TIMEOUT_S)
    line.queue.put(make_result(1))
    line.writer.error = ClosedError("time is up")
    release = threading.Thread(
        target=lambda: (line.thread.gave_up.wait(TIMEOUT_S), line.writer.may_write.set())
    )
    release.start()
    line.thread.stop(timeout_s=0.0)
    release.join()
    assert line.statistics().dropped == {"closed": 2}


def test_a_write_that_never_returns_is_left_behind_and_said(make_result, monkeypatch, caplog):
    monkeypatch.setattr(queued, "LAST_WORD_S", 0.0)
    line = Line()
    line.writer.may_write.clear()
    line.queue.put(make_result(0))
    line.thread.start()
    thread = line.thread._thread
    assert line.writer.writing.wait(TIMEOUT_S)
    line.thread.stop(timeout_s=0.0)
    assert "its write does not return" in caplog.text
    line.writer.may_write.set()
    thread.join(TIMEOUT_S)


def test_after_closing_results_are_dropped_and_counted(make_result):
    line = Line()
    line.queue.put(make_result(0))
    line.thread.stop(TIMEOUT_S)  # it never started
    line.queue.put(make_result(1))
    assert line.statistics().dropped == {"closed": 2}
    assert line.queue.is_finished


@pytest.mark.parametrize("output", [None, "not an output"])
def test_the_encoder_survives_what_is_not_a_result(make_result, output, caplog):
    counts = SinkCounts()
    encoder = CountingEncoder("test", ResultEncoder("n", "b"), counts)
    assert encoder.encode(make_result(output=output)) is None
    assert encoder.encode(make_result()) is not None
    assert counts.failed == 1
    assert "a result of model detector cannot be encoded" in caplog.text
