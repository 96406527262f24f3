"""How far a sink's threads have come: what the watchdog reads."""

from __future__ import annotations

import os
import threading
import time

import pytest

from edgert.errors import SinkError
from edgert.publish.dialect import NativeDialect
from edgert.publish.filtered import FilteredSink
from edgert.publish.lines import LinesSink
from edgert.publish.mqtt_sink import MqttSink
from edgert.publish.options import LinesOptions, MqttOptions, SpoolOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.spool import Spool
from edgert.publish.spool_file import SpoolFile
from edgert.publish.ticket import Ticket
from tests.fakes.mqtt_session import TIMEOUT_S, FakeBroker


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def sink(broker, tmp_path):
    spool_options = SpoolOptions(flush_s=0.05)
    options = MqttOptions(qos=1, retry_min_s=0.001, retry_max_s=0.002, spool=spool_options)
    dialect = NativeDialect("edgert/n/", ResultEncoder("n", "b"))
    spool = Spool("m", SpoolFile(tmp_path / "spool", 1_000_000), spool_options, "b")
    sink = MqttSink("m", options, "edgert/n/", dialect, broker.open_session, spool)
    yield sink
    sink.close(TIMEOUT_S)


def test_a_connection_takes_turns_while_it_is_up_and_is_idle_while_the_broker_is_away(sink, broker):
    assert [(pulse.part, pulse.is_idle) for pulse in sink.pulses()] == [
        ("sink m", True),
        ("spool of sink m", True),
    ]
    sink.open()
    wait_for(lambda: not sink.pulses()[0].is_idle)
    first = sink.pulses()[0].turns
    wait_for(lambda: sink.pulses()[0].turns > first)
    sink.connection._connector.connect = broker_away
    broker.break_off()
    wait_for(lambda: sink.pulses()[0].is_idle)


def broker_away():
    raise SinkError("away")


def test_a_spool_whose_disk_does_not_answer_is_seen(sink, monkeypatch, make_result):
    gate = threading.Event()
    append = SpoolFile.append

    def slow(*arguments):
        assert gate.wait(TIMEOUT_S)
        return append(*arguments)

    sink.open()
    turns = sink.pulses()[1].turns
    wait_for(lambda: sink.pulses()[1].turns > turns)  # a flush later
    monkeypatch.setattr(SpoolFile, "append", slow)
    sink._spool.put([ticket(sink, make_result)])
    wait_for(lambda: not sink.pulses()[1].is_idle and sink._spool._pending == [])
    stuck = sink.pulses()[1].turns
    time.sleep(0.2)
    assert (sink.pulses()[1].turns, sink.pulses()[1].is_idle) == (stuck, False)
    gate.set()
    wait_for(lambda: sink.pulses()[1].turns > stuck)


def ticket(sink, make_result):
    return Ticket(next(sink._numbers), make_result(1))


def test_a_reader_that_is_slow_is_waited_for_in_many_steps(make_result, monkeypatch):
    monkeypatch.setattr("edgert.publish.lines.LOOK_UP_S", 0.01)
    reader, writer = os.pipe()
    monkeypatch.setattr("edgert.publish.lines._open", lambda _: os.dup(writer))
    sink = LinesSink("out", LinesOptions(queue=1000), ResultEncoder("n", "b"))
    sink.open()
    [pulse] = FilteredSink(sink, lambda result: result).pulses()
    assert (pulse.part, pulse.is_idle) == ("sink out", True)
    for seq in range(1000):
        sink.send(make_result(seq))
    wait_for(lambda: not sink.pulses()[0].is_idle)
    turns = [sink.pulses()[0].turns]
    for _ in range(3):
        wait_for(lambda: sink.pulses()[0].turns > turns[-1])
        turns.append(sink.pulses()[0].turns)
    os.close(reader)
    sink.close(TIMEOUT_S)
    os.close(writer)
    assert sink.pulses()[0].is_idle
