"""A Sparkplug host: decodes by hand, from the numbers in the specification, and holds nodes to its rules."""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
PAYLOAD = {1: "timestamp", 2: "metrics", 3: "seq"}
METRIC = {
    1: "name",
    2: "alias",
    3: "timestamp",
    4: "datatype",
    5: "is_historical",
    7: "is_null",
    10: "value",
    11: "value",
    12: "value",
    14: "value",
    15: "value",
}
FIELD_OF_TYPE = {3: 10, 4: 11, 9: 12, 11: 14, 12: 15}


class Host:
    """Takes messages in the order of their arrival; raises AssertionError where a node breaks a rule."""

    def __init__(self) -> None:
        self.bdseq = None  # of the node that is alive
        self.next_seq = None
        self.births = {}  # by device, "" for the node: {metric's name: field number of its type}
        self.values = {}  # by device: {metric's name: current value}
        self.history = []  # (device, {name: value}) of data that was marked as historical

    def take(self, topic: str, payload: bytes) -> dict:
        """Return the payload decoded."""
        namespace, _, kind, _, *device = topic.split("/")
        assert namespace == "spBv1.0"
        decoded = decode(payload)
        if kind == "NDEATH":
            self._death(decoded)
        elif kind.endswith("BIRTH"):
            self._birth(kind, *(device or [""]), decoded)
        else:
            self._data(*device, decoded)
        return decoded

    def _death(self, decoded):
        assert "seq" not in decoded
        assert list(decoded["metrics"]) == ["bdSeq"]
        if decoded["metrics"]["bdSeq"]["value"] == self.bdseq:  # else it is of a connection before
            self.bdseq = None

    def _birth(self, kind, device, decoded):
        metrics = decoded["metrics"]
        if kind == "NBIRTH":
            self.bdseq = metrics["bdSeq"]["value"]
            self.births.clear()
            self.next_seq = 0
        self._count(decoded)
        assert all("timestamp" in metric for metric in metrics.values())
        assert all(("value" in metric) != metric.get("is_null", False) for metric in metrics.values())
        times = [metric["timestamp"] for metric in metrics.values()]
        assert times == sorted(times)
        self.births[device] = {name: FIELD_OF_TYPE[metric["datatype"]] for name, metric in metrics.items()}
        self.values[device] = {name: metric.get("value") for name, metric in metrics.items()}

    def _data(self, device, decoded):
        self._count(decoded)
        values = {}
        for name, metric in decoded["metrics"].items():
            assert name in self.births[device], f"{name} is in no birth"
            assert FIELD_OF_TYPE[metric["datatype"]] == self.births[device][name]
            assert metric["field"] in (None, self.births[device][name])
            assert ("value" in metric) != metric.get("is_null", False)
            values[name] = metric.get("value")
        flags = {metric.get("is_historical", False) for metric in decoded["metrics"].values()}
        if flags == {True}:
            self.history.append((device, values))
        else:
            assert flags == {False}
            self.values[device].update(values)

    def _count(self, decoded):
        assert decoded["seq"] == self.next_seq
        self.next_seq = (self.next_seq + 1) % 256


def decode(payload: bytes) -> dict:
    """Return the fields of a payload by name, its metrics by theirs; `field` is where a value stood."""
    decoded = {"metrics": {}}
    for number, value in _fields(payload):
        if number == 2:
            metric = _metric(value)
            assert metric["name"] not in decoded["metrics"]
            decoded["metrics"][metric["name"]] = metric
        else:
            decoded[PAYLOAD[number]] = value
    return decoded


def encode_command(name: str, value: bool) -> bytes:
    """Return a command with one Boolean metric."""
    metric = _text(1, name) + bytes([4 << 3, 11, 14 << 3, value])
    return bytes([1 << 3, 5]) + bytes([2 << 3 | BYTES, len(metric)]) + metric


def _metric(data: bytes) -> dict:
    metric = {"field": None}
    for number, value in _fields(data):
        name = METRIC[number]
        assert name not in metric
        if name == "value":
            metric["field"] = number
        metric[name] = _typed(number, value)
    return metric


def _typed(number, value):
    if number in (1, 15):
        return value.decode()
    if number == 12:
        return struct.unpack("<f", value)[0]
    return bool(value) if number in (5, 6, 7, 14) else value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if kind == BYTES else ({FIXED32: 4, FIXED64: 8}[kind], at)
            value, at = data[at : at + size], at + size
            assert len(value) == size
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def _text(number: int, text: str) -> bytes:
    return bytes([number << 3 | BYTES, len(text)]) + text.encode()
