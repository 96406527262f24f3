"""Results to a broker without a network."""

from __future__ import annotations

import json
import time

import pytest

from edgert.publish.dialect import NativeDialect
from edgert.publish.mqtt_sink import MqttSink
from edgert.publish.options import MqttOptions, SpoolOptions
from edgert.publish.payload import ResultEncoder
from edgert.publish.session import Limits
from edgert.publish.spool import Spool
from edgert.publish.spool_file import SpoolFile
from tests.fakes.mqtt_session import TIMEOUT_S, FakeBroker


@pytest.fixture
def broker():
    return FakeBroker()


@pytest.fixture
def make_sink(broker):
    sinks = []

    def make(spool_path=None, **options):
        values = {"retry_min_s": 0.001, "retry_max_s": 0.002, **options}
        dialect = NativeDialect("edgert/n/", ResultEncoder("n", "b"))
        spool = None
        if spool_path is not None:
            values["spool"] = SpoolOptions(flush_s=0.05)
            spool = Spool("m", SpoolFile(spool_path, 1_000_000), values["spool"], "b")
        sink = MqttSink("m", MqttOptions(**values), "edgert/n/", dialect, broker.open_session, spool)
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


WARNINGS_AT_END = {
    False: "Sink m: 3 results are left, and lost: the broker cannot be reached, and there is no spool",
    True: "Sink m: 3 results are left, on disk in {path}; they follow after the next start",
}


def left(records, level="WARNING"):
    return [r.getMessage() for r in records if " left" in r.getMessage() and r.levelname == level]


@pytest.mark.parametrize("has_spool", [False, True])
def test_a_stop_while_the_broker_is_away_says_what_is_left_and_where(
    make_sink, broker, make_result, caplog, tmp_path, has_spool
):
    caplog.set_level("INFO")
    broker.is_up = False
    path = tmp_path / "spool"
    sink = make_sink(qos=1, spool_path=path if has_spool else None)
    sink.open()
    for seq in range(3):
        sink.send(make_result(seq))
    sink.close(TIMEOUT_S)
    sink.close(TIMEOUT_S)
    assert left(caplog.records) == [WARNINGS_AT_END[has_spool].format(path=path)]


@pytest.mark.parametrize("has_spool", [False, True])
def test_a_stop_that_leaves_nothing_says_nothing(make_sink, broker, make_result, caplog, tmp_path, has_spool):
    sink = make_sink(qos=1, spool_path=tmp_path / "spool" if has_spool else None)
    sink.open()
    sink.send(make_result())
    sink.close(TIMEOUT_S)
    assert left(caplog.records) == []
    assert len([message for message in broker.received if not message.is_retained]) == 1


def test_what_is_still_stored_at_a_usual_stop_is_no_warning(make_sink, broker, make_result, caplog, tmp_path):
    caplog.set_level("INFO")
    broker.acknowledges = False
    sink = make_sink(qos=1, spool_path=tmp_path / "spool")
    sink.open()
    broker.wait_for(lambda: broker.session)
    sink.send(make_result())
    broker.wait_for(lambda: broker.received)
    sink.close(1.0)
    assert left(caplog.records) == []
    assert left(caplog.records, "INFO") == [
        f"Sink m: 1 results are left, on disk in {tmp_path / 'spool'}; they follow after the next start"
    ]


def test_stored_results_have_half_of_the_window_that_the_broker_gave(
    make_sink, broker, make_result, tmp_path
):
    broker.is_up = False
    first = make_sink(qos=1, spool_path=tmp_path / "spool")
    first.open()
    for seq in range(20):
        first.send(make_result(seq))
    first.close(TIMEOUT_S)
    broker.is_up, broker.acknowledges, broker.limits = True, False, Limits(inflight=6)
    sink = make_sink(qos=1, max_inflight=1000, spool_path=tmp_path / "spool")
    sink.open()
    broker.wait_for(lambda: len(broker.received) >= 3)
    sink.send(make_result(100, captured_mono_ns=time.monotonic_ns()))
    broker.wait_for(lambda: len(broker.received) >= 4)
    assert [json.loads(payload)["seq"] for payload in broker.payloads()] == [0, 1, 2, 100]
    broker.acknowledge()
    broker.wait_for(lambda: len(broker.received) == 21)
