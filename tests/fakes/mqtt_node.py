"""A node that publishes results over MQTT, as the pipeline would."""

from __future__ import annotations

import json
import time

import numpy as np

from edgert.frames.result import Classes, Result
from edgert.publish.factory import open_sink
from edgert.publish.options import MqttOptions

CLOSE_TIMEOUT_S = 10.0


class MqttNode:
    """A sink of node `n`, retrying fast. Results are counted from 0."""

    def __init__(self, port: int, resolve=None, **options) -> None:
        values = {"retry_min_s": 0.02, "retry_max_s": 0.1, **options}
        self.sink = open_sink("m", MqttOptions(port=port, **values), "n", "boot", *filter(None, [resolve]))
        self.sent = 0

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            self.sink.send(make_result(self.sent))
            self.sent += 1

    def state(self, state) -> None:
        self.sink.announcer.publish_state(state)

    def close(self) -> None:
        self.sink.close(CLOSE_TIMEOUT_S)

    def __enter__(self) -> MqttNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def make_result(seq: int) -> Result:
    output = Classes(np.array([0.5], "f4"), np.array([0]), ["cat"])
    return Result("porch", seq, "classifier", 1, time.time_ns(), time.monotonic_ns(), 640, 480, output)


def is_result(message, seq: int | None = None) -> bool:
    """Say whether an MQTT message is a result, and the one with this number."""
    return "/result/" in message.topic and (seq is None or json.loads(message.payload)["seq"] == seq)


def numbers(messages) -> list[int]:
    """Return the numbers of the results among the messages."""
    return [json.loads(message.payload)["seq"] for message in messages if is_result(message)]
