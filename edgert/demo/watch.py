"""The demo's subscriber: a readable line a result, and the service's last statistics."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

Json = dict[str, Any]


class Watcher:
    """Subscribes to everything below a node and prints results through `show`."""

    def __init__(self, port: int, node: str, show: Callable[[str], None]) -> None:
        self._show = show
        self._root = f"edgert/{node}/"
        self.results = 0
        self.stats: Json | None = None
        self.birth: Json | None = None
        self.states: list[str] = []
        self.is_ready = threading.Event()
        self.is_subscribed = threading.Event()
        self._is_disconnected = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self.is_subscribed.set()
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Watcher:
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, *_: Any) -> None:
        self._client.subscribe(self._root + "#", qos=1)

    def wait_disconnected(self, timeout_s: float) -> bool:
        """Wait for the service's last word; results it delivered before have arrived then."""
        return self._is_disconnected.wait(timeout_s)

    def _take(self, message: mqtt.MQTTMessage) -> None:
        topic = message.topic.removeprefix(self._root)
        if "/result/" in topic:
            self.results += 1
            self._show(describe(json.loads(message.payload)))
        elif topic == "stats":
            self.stats = json.loads(message.payload)
        elif topic == "birth":
            self.birth = json.loads(message.payload)
        elif topic == "state":
            self.states.append(message.payload.decode())
            if self.states[-1] == "ready":
                self.is_ready.set()
            elif self.states[-1] == "disconnected":
                self._is_disconnected.set()


def describe(result: Json) -> str:
    """Return one line: time of capture, source, frame, model, latency, what was found."""
    captured_s = result["captured_utc_ns"] / 1e9
    clock = time.strftime("%H:%M:%S", time.localtime(captured_s)) + f".{int(captured_s % 1 * 1000):03d}"
    what = f"{result['source']:8} #{result['seq']:<4} {result['model']:8}"
    return f"{clock}  {what} {result['latency_ms']:6.1f} ms  {_found(result)}"


def _found(result: Json) -> str:
    found = result.get("detections", result.get("classes"))
    if found is None:
        return ", ".join(f"{tensor['name']} {tensor['shape']}" for tensor in result["tensors"])
    return ", ".join(f"{item['label']} {item['score']:.2f}" for item in found[:4]) or "-"
