"""How many results a second reach a broker, against a loop on paho that encodes and publishes them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edgert.publish.factory import open_sink
from edgert.publish.options import MqttOptions
from edgert.publish.payload import ResultEncoder
from tests.bench.figures import Row
from tests.fakes.broker import Mosquitto
from tests.mqtt_bench.results import make_output, make_result

RESULTS = 20_000
PAIRS = 5
WINDOW = 20
TOPIC = "edgert/bench/source/street/result/coco"
TIMEOUT_S = 120.0


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield a row for each QoS."""
    count = RESULTS // 10 if quick else RESULTS
    with Mosquitto(folder, "allow_anonymous true", "max_inflight_messages 0") as broker:
        for qos in (0, 1):
            pairs = [(_edgert(broker.port, qos, count), _bare(broker.port, qos, count)) for _ in range(PAIRS)]
            ratios = [ours / theirs for ours, theirs in pairs]
            ratio = statistics.median(ratios)
            ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
            value = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}); {ours:.0f} against {theirs:.0f}/s"
            figure = f"results published with QoS {qos}, against a loop on paho"
            yield Row(figure, value, ">= 0.9", ratio >= 0.9, {"ratios": ratios})


def _edgert(port: int, qos: int, count: int) -> float:
    """Send all at once; return results a second, until the broker has them (QoS 1) or the network does."""
    sink = open_sink(
        "bench", MqttOptions(port=port, qos=qos, queue=count, max_inflight=WINDOW), "bench", "boot"
    )
    output = make_output()
    _wait(lambda: sink.statistics().is_connected)
    started = time.perf_counter()
    for seq in range(count):
        sink.send(make_result(seq, output))
    _wait(lambda: (sink.statistics().acknowledged if qos else sink.statistics().sent) == count)
    took_s = time.perf_counter() - started
    assert not sink.statistics().dropped
    sink.close(5.0)
    return count / took_s


def _bare(port: int, qos: int, count: int) -> float:
    """The same with nothing but paho and its own thread."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "bare", protocol=MQTTProtocolVersion.MQTTv5)
    client.max_inflight_messages_set(WINDOW)
    connected, finished, published = threading.Event(), threading.Event(), [0]

    def on_publish(*_: object) -> None:
        published[0] += 1
        if published[0] == count:
            finished.set()

    client.on_connect = lambda *_: connected.set()
    client.on_publish = on_publish
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert connected.wait(TIMEOUT_S)
    encoder, output = ResultEncoder("bench", "boot"), make_output()
    started = time.perf_counter()
    for seq in range(count):
        client.publish(TOPIC, encoder.encode(make_result(seq, output)), qos)
    assert finished.wait(TIMEOUT_S)
    took_s = time.perf_counter() - started
    client.disconnect()
    client.loop_stop()
    return count / took_s


def _wait(condition) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("The results do not get through.")
        time.sleep(0.002)
