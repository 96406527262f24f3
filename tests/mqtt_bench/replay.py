"""How late live results are while stored ones are replayed, as a subscriber in another process sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edgert.perf.measure import percentile
from edgert.publish.factory import open_sink
from edgert.publish.options import MqttOptions, SpoolOptions
from edgert.publish.spool_file import SpoolFile
from edgert.publish.stored_result import store_result
from tests.bench.figures import Row
from tests.fakes.broker import Mosquitto
from tests.mqtt_bench.results import make_output, make_result

STORED = 100_000
LIVE_PER_S = 200
QUIET_S = 20.0
TIMEOUT_S = 600.0

# Prints at the end, at SIGINT, how long each live result took, and how many stored ones came.
LISTENER = """
import json, signal, sys, time
import paho.mqtt.client as paho
stored, delays = 0, []
def on_message(client, data, message):
    global stored
    now = time.time_ns()
    result = json.loads(message.payload)
    if result["historical"]:
        stored += 1
    else:
        delays.append((now - result["captured_utc_ns"]) / 1e6)
client = paho.Client(paho.CallbackAPIVersion.VERSION2)
client.on_connect = lambda c, *_: c.subscribe("edgert/bench/source/#", 1)
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
signal.signal(signal.SIGINT, lambda *_: client.disconnect())
client.loop_forever()
print(json.dumps({"stored": stored, "delays_ms": delays}), flush=True)
"""


def figures(folder: Path, *, quick: bool) -> Iterator[Row]:
    """Yield the row of replay."""
    stored = STORED // 10 if quick else STORED
    settings = ("allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
    with Mosquitto(folder, *settings) as broker:
        quiet, _ = _measured(folder / "none.spool", broker.port, QUIET_S)
        _fill(folder / "full.spool", stored)
        began = time.monotonic()
        loaded, replayed = _measured(folder / "full.spool", broker.port, None)
        took_s = time.monotonic() - began
    p99, quiet_p99 = percentile(loaded, 99), percentile(quiet, 99)
    ratio = p99 / quiet_p99
    value = (
        f"{ratio:.2f}; {p99:.2f} against {quiet_p99:.2f} ms (p50 {percentile(loaded, 50):.2f}, "
        f"{percentile(quiet, 50):.2f}); {replayed} in {took_s:.0f} s"
    )
    data = {"p99_ms": p99, "quiet_p99_ms": quiet_p99, "replayed": replayed, "seconds": took_s}
    figure = f"p99 of live results while {stored} are replayed"
    yield Row(figure, value, "<= 1.2", ratio <= 1.2 and replayed >= stored, data)


def _measured(path: Path, port: int, seconds: float | None) -> tuple[list[float], int]:
    """Send live results, for `seconds` or until the spool is empty; return their delays, and stored ones."""
    command = [sys.executable, "-c", LISTENER, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        options = MqttOptions(port=port, qos=1, spool=SpoolOptions(path=str(path)))
        sink = open_sink("bench", options, "bench", "boot")
        output, seq, due = make_output(), 0, time.monotonic()
        until = time.monotonic() + (seconds or TIMEOUT_S)
        while time.monotonic() < until and (seconds or sink.statistics().spool.results):
            sink.send(make_result(seq, output))
            seq, due = seq + 1, due + 1 / LIVE_PER_S
            time.sleep(max(0.0, due - time.monotonic()))
        sink.close(5.0)
        time.sleep(0.5)
        listener.send_signal(2)
        told = json.loads(listener.stdout.read())
    return sorted(told["delays_ms"]), told["stored"]


def _fill(path: Path, count: int) -> None:
    """Write results as an outage leaves them."""
    file, output = SpoolFile(path, 1 << 30), make_output()
    file.open()
    for start in range(0, count, 1000):
        results = [make_result(seq, output) for seq in range(start, start + 1000)]
        file.append([(r.seq + 1, r.captured_utc_ns, store_result(r, "before")) for r in results])
    file.close()
