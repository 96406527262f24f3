"""Results to a broker without a network."""

from __future__ import annotations

import json
import time

import pytest

from edgert.publish.dialect import NativeDialect
from edgert.publish.mqtt_sink import MqttSink
from edgert.publish.options import MqttOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.session import Limits
from tests.fakes.mqtt_session import TIMEOUT_S, FakeBroker


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def make_sink(broker):
    sinks = []

    def make(**options):
        values = {"retry_min_s": 0.001, "retry_max_s": 0.002, **options}
        dialect = NativeDialect("edgert/n/", ResultEncoder("n", "b"))
        sink = MqttSink("m", MqttOptions(**values), "edgert/n/", dialect, broker.open_session)
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        sink.close(TIMEOUT_S)


def test_a_result_goes_to_its_topic_with_the_qos_asked_for(make_sink, broker, make_result):
    sink = make_sink(qos=2)
    sink.open()
    sink.send(make_result(4, source="porch", model="detector"))
    broker.wait_for(lambda: broker.received)
    message = broker.received[0]
    assert message.topic == "edgert/n/source/porch/result/detector"
    assert (message.qos, message.is_retained) == (2, False)
    assert json.loads(message.payload)["seq"] == 4


def test_a_result_that_waited_for_the_broker_is_historical(make_sink, broker, make_result):
    sink = make_sink()
    sink.send(make_result(0, captured_mono_ns=time.monotonic_ns()))
    sink.open()
    broker.wait_for(lambda: broker.received)
    sink.send(make_result(1, captured_mono_ns=time.monotonic_ns()))
    broker.wait_for(lambda: len(broker.received) == 2)
    assert [json.loads(payload)["historical"] for payload in broker.payloads()] == [True, False]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_result_that_is_sent_again_is_historical_by_then(make_sink, broker, make_result, qos):
    broker.acknowledges = False
    sink = make_sink(qos=qos)
    sink.open()
    broker.wait_for(lambda: sink.statistics().is_connected)
    sink.send(make_result(0, captured_mono_ns=time.monotonic_ns()))
    broker.wait_for(lambda: len(broker.received) == 1)
    broker.break_off()
    broker.wait_for(lambda: len(broker.received) == 2)
    first, again = (json.loads(payload) for payload in broker.payloads())
    assert [first.pop("historical"), again.pop("historical")] == [False, True]
    for key in ("published_utc_ns", "latency_ms"):
        assert first.pop(key) < again.pop(key)
    assert first == again
    broker.acknowledge()
    sink.close(TIMEOUT_S)
    statistics = sink.statistics()
    assert (statistics.sent, statistics.acknowledged, statistics.failed) == (1, 1, 0)


def test_while_the_broker_is_away_the_oldest_are_dropped_for_that_reason(make_sink, broker, make_result):
    broker.is_up = False
    sink = make_sink(queue=2)
    sink.open()
    for seq in range(5):
        sink.send(make_result(seq))
    assert not sink.statistics().is_connected
    broker.is_up = True
    broker.wait_for(lambda: len(broker.received) == 2)
    assert [json.loads(payload)["seq"] for payload in broker.payloads()] == [3, 4]
    sink.close(TIMEOUT_S)
    statistics = sink.statistics()
    assert (statistics.sent, statistics.dropped) == (2, {"broker_away": 3})
    assert statistics.latency.count == 2


def test_while_the_broker_is_slow_the_reason_is_another(make_sink, broker, make_result):
    sink = make_sink(queue=2)
    sink.open()
    broker.wait_for(lambda: sink.statistics().is_connected)
    broker.block(True)
    for seq in range(5):
        sink.send(make_result(seq))
    broker.block(False)
    sink.close(TIMEOUT_S)
    statistics = sink.statistics()
    assert statistics.sent + statistics.dropped["queue_full"] == 5
    assert statistics.dropped["queue_full"] >= 2


def test_acknowledgements_and_refusals_are_counted(make_sink, broker, make_result, caplog):
    broker.refusals = {"edgert/n/source/secret/result/detector": "Not authorized"}
    sink = make_sink(qos=1)
    sink.open()
    for source in ("porch", "secret", "secret"):
        sink.send(make_result(source=source))
    sink.close(TIMEOUT_S)
    statistics = sink.statistics()
    assert (statistics.sent, statistics.acknowledged, statistics.refused) == (3, 1, 2)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "Sink m: the broker refuses edgert/n/source/secret/result/detector: Not authorized",
    ]


def test_bad_results_are_counted_and_others_go_out(make_sink, broker, make_result):
    broker.limits = Limits(inflight=20, packet_bytes=430)
    sink = make_sink()
    sink.open()
    sink.send(make_result(0, source="a/b"))
    sink.send(make_result(1, output=None))
    sink.send(make_result(2, source="x" * 100))
    sink.send(make_result(3))
    sink.close(TIMEOUT_S)
    assert json.loads(broker.payloads()[0])["seq"] == 3
    statistics = sink.statistics()
    assert (statistics.sent, statistics.failed, statistics.dropped) == (1, 2, {"too_large": 1})


def test_its_announcer_is_the_connection(make_sink, broker):
    sink = make_sink()
    sink.open()
    sink.announcer.publish_state("ready")
    broker.wait_for(lambda: broker.retained.get("edgert/n/state") == b"ready")
