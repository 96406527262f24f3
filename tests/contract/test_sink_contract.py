"""What every Sink promises, run on each of them."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from edgert.frames.result import Classes, Result
from edgert.publish.dialect import NativeDialect
from edgert.publish.factory import open_sink
from edgert.publish.lines import LinesSink
from edgert.publish.mqtt import PahoSession
from edgert.publish.mqtt_sink import MqttSink
from edgert.publish.options import LinesOptions, MqttOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.sink import Sink
from tests.fakes.broker import Mosquitto, Subscriber
from tests.fakes.mqtt_session import FakeBroker

TIMEOUT_S = 10.0
QUEUE = 50


def make_result(seq, **fields):
    values = {
        "source": "porch",
        "model": "classifier",
        "output": Classes(np.array([0.5]), np.array([0]), ["cat"]),
    }
    return Result(
        seq=seq,
        version=1,
        captured_utc_ns=0,
        captured_mono_ns=time.monotonic_ns(),
        width=1,
        height=1,
        **values | fields,
    )


class LinesRig:
    """Lines to a file."""

    def __init__(self, folder):
        self._path = folder / "out.jsonl"
        self.sink = LinesSink(
            "lines", LinesOptions(path=str(self._path), queue=QUEUE), ResultEncoder("n", "b")
        )

    def received(self):
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [json.loads(line)["seq"] for line in lines]

    def close(self):
        pass


class MqttRig:
    """MQTT to a broker without a network."""

    def __init__(self, folder):
        self._broker = FakeBroker()
        options = MqttOptions(queue=QUEUE, qos=1, retry_min_s=0.001)
        dialect = NativeDialect("edgert/n/", ResultEncoder("n", "b"))
        self.sink = MqttSink("mqtt", options, "edgert/n/", dialect, self._broker.open_session)

    def received(self):
        return [json.loads(m.payload)["seq"] for m in self._broker.received if "/result/" in m.topic]

    def close(self):
        pass


class MosquittoRig:
    """MQTT to a real broker."""

    def __init__(self, folder):
        self._broker = Mosquitto(folder)
        self._broker.start()
        self._subscriber = Subscriber(self._broker.port, "edgert/n/source/+/result/+")
        options = MqttOptions(port=self._broker.port, queue=QUEUE, qos=1, retry_min_s=0.01)

        def open_session(attempt):
            return PahoSession(options, attempt, "edgert-contract", folder.joinpath)

        dialect = NativeDialect("edgert/n/", ResultEncoder("n", "b"))
        self.sink = MqttSink("mqtt", options, "edgert/n/", dialect, open_session)

    def received(self):
        """All up to a last message, which the broker puts behind them."""
        self._subscriber.publish("edgert/n/source/end/result/end", b"{}")
        self._subscriber.wait_payload("edgert/n/source/end/result/end", b"{}")
        return [json.loads(m.payload)["seq"] for m in self._subscriber.messages if m.payload != b"{}"]

    def close(self):
        self._subscriber.close()
        self._broker.stop()


@pytest.fixture(params=[LinesRig, MqttRig, pytest.param(MosquittoRig, marks=pytest.mark.system)])
def rig(request, tmp_path):
    rig = request.param(tmp_path)
    yield rig
    rig.sink.close(TIMEOUT_S)
    rig.close()


def accounted(sink: Sink):
    statistics = sink.statistics()
    return statistics.sent + statistics.failed + sum(statistics.dropped.values()) + statistics.queue.used


def test_it_delivers_in_order_everything_that_is_queued_when_it_closes(rig):
    rig.sink.open()
    for seq in range(QUEUE):
        rig.sink.send(make_result(seq))
    rig.sink.close(TIMEOUT_S)
    assert rig.received() == list(range(QUEUE))
    assert rig.sink.statistics().sent == QUEUE
    assert rig.sink.statistics().latency.count == QUEUE


def test_results_from_before_it_was_open_wait(rig):
    rig.sink.send(make_result(0))
    assert rig.sink.statistics().queue.used == 1
    rig.sink.open()
    rig.sink.close(TIMEOUT_S)
    assert rig.received() == [0]


def test_closing_again_or_without_opening_does_nothing(rig):
    rig.sink.close(0.0)
    rig.sink.close(TIMEOUT_S)
    assert rig.sink.statistics().sent == 0
    assert not rig.sink.statistics().is_connected


def test_after_closing_nothing_is_taken_and_it_is_counted(rig):
    rig.sink.open()
    rig.sink.close(TIMEOUT_S)
    rig.sink.send(make_result(0))
    assert rig.sink.statistics().dropped == {"closed": 1}
    assert rig.received() == []


def test_a_full_queue_drops_the_oldest_and_counts_it(rig):
    for seq in range(QUEUE + 3):
        rig.sink.send(make_result(seq))
    rig.sink.open()
    rig.sink.close(TIMEOUT_S)
    assert rig.received() == list(range(3, QUEUE + 3))
    assert sum(rig.sink.statistics().dropped.values()) == 3


def test_a_result_that_cannot_be_encoded_takes_no_other_with_it(rig):
    rig.sink.open()
    rig.sink.send(make_result(0))
    rig.sink.send(make_result(1, output=None))
    rig.sink.send(make_result(2))
    rig.sink.close(TIMEOUT_S)
    assert rig.received() == [0, 2]
    assert (rig.sink.statistics().sent, rig.sink.statistics().failed) == (2, 1)


def test_many_threads_may_send_and_every_result_is_accounted_for(rig):
    rig.sink.open()
    senders = [
        threading.Thread(target=lambda: [rig.sink.send(make_result(seq)) for seq in range(300)])
        for _ in range(4)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(TIMEOUT_S)
    rig.sink.close(TIMEOUT_S)
    assert accounted(rig.sink) == 1200
    assert len(rig.received()) == rig.sink.statistics().sent


def test_states_may_be_announced_at_any_time(rig):
    for step in (lambda: None, rig.sink.open, lambda: rig.sink.close(TIMEOUT_S)):
        step()
        if rig.sink.announcer is not None:
            rig.sink.announcer.publish_state("ready")
            rig.sink.announcer.publish_retained("birth", b"{}")
            rig.sink.announcer.publish("stats", b"{}")


def test_the_factory_opens_it(tmp_path):
    sink: Sink = open_sink("lines", LinesOptions(path=str(tmp_path / "out")), "n", "b")
    assert sink.statistics().is_connected
    sink.close(TIMEOUT_S)
