"""Sparkplug B 3.0: this process is an edge node, each source one of its devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter

from edgert.errors import SinkError
from edgert.frames.result import Result
from edgert.publish import topics
from edgert.publish.encoder import Encoder
from edgert.publish.session import Message, Received
from edgert.publish.sparkplug_metrics import ModelMetrics, Values, values_of
from edgert.publish.sparkplug_payload import DataType, Metric, Value, decode_values, encode
from edgert.stats import Tally

NAMESPACE = "spBv1.0"
REBIRTH = "Node Control/Rebirth"
SEQUENCE = 256  # numbers go from 0 to 255, then from 0 again
NANOSECONDS_PER_MS = 1_000_000


class SparkplugDialect:
    """A Dialect. Each result is a DDATA of its source, with those metrics that have changed.

    All messages must be published, in the order in which they are returned: hosts take a number that is
    missing for a loss and ask for a rebirth. The specification wants QoS 0 for data; `result` does as it
    is told, because only an acknowledged message can be stored until the broker has it.
    """

    announces = False

    def __init__(
        self,
        group: str,
        node: str,
        encoder: Encoder,
        properties: Mapping[str, str],
        utc_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`encoder` writes the text of `<model>/result`. `properties` stand in each birth of the node.

        Raises ConfigError for a bad name.
        """
        self._group = topics.check_name(group, "group")
        self._node = topics.check_name(node, "node")
        self._encoder = encoder
        self._properties = dict(properties)
        self._utc_ns = utc_ns
        self._session = SEQUENCE - 1  # bdSeq; the first will has 0
        self._seq = 0  # of the next message
        self._devices: dict[str, dict[str, ModelMetrics]] = {}  # by source, then by model
        self.subscriptions: tuple[str, ...] = (self._topic("NCMD"),)
        self.counts = Tally()  # commands: rebirth; garbage, retained, unknown: ignored

    def will(self) -> Message:
        """Return the node's death, numbered for the connection that is about to begin."""
        self._session = (self._session + 1) % SEQUENCE
        return self._death()

    def greeting(self) -> list[Message]:
        """Return the births of the node and of the devices that are known by now."""
        return self._births()

    def farewell(self) -> Message:
        """Return the node's death."""
        return self._death()

    def result(self, result: Result, *, historical: bool, qos: int) -> list[Message]:
        """Return the DDATA of a result, after a DBIRTH if it has metrics that none has announced."""
        device, model = _names(result.source, result.model)
        values = values_of(result, self._encoder.encode(result, historical).decode())
        metrics = self._devices.get(device, {}).get(model) or ModelMetrics()
        is_new = not metrics.has_all(values)
        changes = metrics.changes(values, result.captured_utc_ns // NANOSECONDS_PER_MS, historical)
        # What cannot be encoded fails here, before anything is taken for said.
        payload = encode(changes, self._now_ms(), (self._seq + is_new) % SEQUENCE)
        births = [self._announce(device, model, metrics, values)] if is_new else []
        metrics.remember(changes)
        self._next_seq()
        return [*births, Message(self._topic("DDATA", device), payload, qos)]

    def described(
        self, sources: Mapping[str, Sequence[str]], labels: Mapping[str, Sequence[str]]
    ) -> list[Message]:
        """Return nothing: births say it."""
        return []

    def received(self, received: Received) -> list[Message]:
        """Return all births if a host asks for them, else nothing."""
        meaning = _meaning(received)
        self.counts.add(meaning)
        return self._births() if meaning == "rebirth" else []

    def _births(self) -> list[Message]:
        self._seq = 0
        births = [self._node_birth()]
        for device, models in self._devices.items():
            for metrics in models.values():
                metrics.begin()
            births.append(self._device_birth(device))
        return births

    def _announce(self, device: str, model: str, metrics: ModelMetrics, values: Values) -> Message:
        metrics.announce(values)
        self._devices.setdefault(device, {})[model] = metrics
        return self._device_birth(device)

    def _node_birth(self) -> Message:
        now_ms = self._now_ms()
        values = self._session_value()
        values[REBIRTH] = Value(DataType.BOOLEAN, False)
        for name, text in self._properties.items():
            values[f"Properties/{name}"] = Value(DataType.STRING, text)
        metrics = [Metric(name, value, now_ms) for name, value in values.items()]
        return Message(self._topic("NBIRTH"), encode(metrics, now_ms, self._next_seq()))

    def _device_birth(self, device: str) -> Message:
        now_ms = self._now_ms()
        models = self._devices[device].values()
        metrics = sorted(
            (metric for model in models for metric in model.birth(now_ms)), key=attrgetter("utc_ms")
        )
        return Message(self._topic("DBIRTH", device), encode(metrics, now_ms, self._next_seq()))

    def _death(self) -> Message:
        now_ms = self._now_ms()
        metrics = [Metric(name, value, now_ms) for name, value in self._session_value().items()]
        return Message(self._topic("NDEATH"), encode(metrics, now_ms, None), qos=1)

    def _session_value(self) -> Values:
        return {"bdSeq": Value(DataType.INT64, self._session)}

    def _topic(self, kind: str, *device: str) -> str:
        return "/".join([NAMESPACE, self._group, kind, self._node, *device])

    def _next_seq(self) -> int:
        seq, self._seq = self._seq, (self._seq + 1) % SEQUENCE
        return seq

    def _now_ms(self) -> int:
        return self._utc_ns() // NANOSECONDS_PER_MS


@lru_cache(1024)
def _names(source: str, model: str) -> tuple[str, str]:
    return topics.check_name(source, "source"), topics.check_name(model, "model")


def _meaning(received: Received) -> str:
    """Say what a command asks for: `rebirth`, or why it is ignored."""
    if received.is_retained:
        return "retained"
    try:
        values = decode_values(received.payload)
    except SinkError:
        return "garbage"
    return "rebirth" if values.get(REBIRTH) is True else "unknown"
