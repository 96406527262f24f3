"""Results as the JSON of DeepStream's message converter, Gst-nvmsgconv: its minimal and its full schema.

What edgert does not know has the value that DeepStream writes without a tracker: objects have no track,
speeds are 0. Where sensors and objects are in the world is left out, or empty.

- `@timestamp` is the capture, in UTC, to the millisecond.
- `customMessage`, where an application adds its own texts, has the result's key,
  `<boot>/<source>/<seq>/<model>`, and after that `historical` if the result is not live. None of the four
  contains `/`.
- Classes are objects as large as the frame, best first. Landmarks have no place; tensors are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType, field

from edgert.errors import ConfigError
from edgert.frames.result import Result, Tensors
from edgert.publish.payload import PayloadBuilder, ResultPayload, read_schema

UNTRACKED = "18446744073709551615"  # DeepStream's id of an object without a track, 2^64-1
SEPARATOR = "|"
INT32_MAX = (1 << 31) - 1
EPOCH = datetime(1970, 1, 1)


class MinimalMessage(msgspec.Struct, gc=False, kw_only=True):
    """All objects of a frame, each `id|left|top|right|bottom|label|#|confidence`, in pixels of the source."""

    version: str = "4.0"
    id: str  # the frame's number
    timestamp: str = field(name="@timestamp")
    sensor_id: str = field(name="sensorId")
    objects: list[str]
    custom_message: list[str] = field(name="customMessage")


class FullMessage(msgspec.Struct, gc=False, kw_only=True):
    """One object with everything around it, and edgert's list of all objects.

    DeepStream sends one such message for each object; here a result is one message. So `object` is the best
    one, where its subscribers look, and `objects`, which DeepStream has not, are all, the best included. A
    result without any has no `object`.
    """

    messageid: str  # the result's key: a duplicate has the same
    mdsversion: str = "1.0"
    timestamp: str = field(name="@timestamp")
    place: dict[str, str]  # the node
    sensor: dict[str, str]  # the source
    analytics_module: dict[str, str] = field(name="analyticsModule")  # the model
    best: dict[str, Any] | UnsetType = field(name="object")
    event: dict[str, str]
    video_path: str = field(name="videoPath", default="")
    objects: list[dict[str, Any]]
    custom_message: list[str] = field(name="customMessage")


class DeepStreamEncoder:
    """An Encoder. Keeps a buffer for reuse, so each thread needs one of its own."""

    content_type = "application/json"

    def __init__(self, builder: PayloadBuilder, message: Callable[[ResultPayload], msgspec.Struct]) -> None:
        """`message`: `minimal_message` or `full_message`."""
        self._builder = builder
        self._message = message
        self._encode = msgspec.json.Encoder().encode

    def encode(self, result: Result, historical: bool = False) -> bytes:
        """Return the JSON of `result`. `historical` marks one that is not live.

        Raises:
            ConfigError: the result is tensors.
        """
        if isinstance(result.output, Tensors):
            raise ConfigError(
                f"Model {result.model} publishes tensors, and DeepStream's messages have no place for them. "
                "Choose the encoding json or msgpack, or give the model a decoder."
            )
        return self._encode(self._message(self._builder.build(result, historical)))


def minimal_message(payload: ResultPayload) -> MinimalMessage:
    """Return the minimal message of detections or classes."""
    return MinimalMessage(
        id=str(payload.seq),
        timestamp=_timestamp(payload.captured_utc_ns),
        sensor_id=payload.source,
        objects=[_line(found) for found in _found(payload)],
        custom_message=_custom(payload),
    )


def full_message(payload: ResultPayload) -> FullMessage:
    """Return the full message of detections or classes."""
    key = _key(payload)
    objects = [_object(found) for found in _found(payload)]
    return FullMessage(
        messageid=key,
        timestamp=_timestamp(payload.captured_utc_ns),
        place={"id": payload.node, "name": payload.node, "type": "node"},
        sensor={"id": payload.source, "type": "Camera", "description": ""},
        analytics_module={
            "id": payload.model,
            "description": "",
            "source": "edgert",
            "version": str(payload.version),
        },
        best=objects[0] if objects else UNSET,
        event={"id": key, "type": ""},
        objects=objects,
        custom_message=_custom(payload),
    )


def deepstream_schema(which: Literal["minimal", "full"]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what is published here; subscribers may rely on it."""
    return read_schema(f"deepstream-{which}")


class _Found(NamedTuple):
    """A detection or class, rounded; None is a number that is not finite."""

    label: str
    score: float | None
    box_xyxy_px: list[float | None]


def _found(payload: ResultPayload) -> list[_Found]:
    if isinstance(payload.detections, list):
        return [_Found(one.label, one.score, [*one.box_xyxy_px]) for one in payload.detections]
    width, height = payload.size
    frame: list[float | None] = [0.0, 0.0, float(width), float(height)]
    return [_Found(one.label, one.score, frame) for one in payload.classes or ()]


def _line(found: _Found) -> str:
    """Return the object as DeepStream writes one with a confidence but no attributes."""
    label = found.label.replace(SEPARATOR, "/")
    return SEPARATOR.join([UNTRACKED, *map(_number, found.box_xyxy_px), label, "#", _number(found.score)])


def _number(value: float | None) -> str:
    """Return six significant digits, as C++ does."""
    return "nan" if value is None else f"{value:g}"


def _object(found: _Found) -> dict[str, Any]:
    """Return the object. Its label names a member, after `_` if another member has that name."""
    left, top, right, bottom = map(_pixel, found.box_xyxy_px)
    members: dict[str, Any] = {
        "id": UNTRACKED,
        "speed": 0.0,
        "direction": 0.0,
        "orientation": 0.0,
        "bbox": {"topleftx": left, "toplefty": top, "bottomrightx": right, "bottomrighty": bottom},
        "location": {},
        "coordinate": {},
    }
    label = f"_{found.label}" if found.label in members else found.label
    return members | {label: {"confidence": found.score}}


def _pixel(value: float | None) -> int | None:
    return None if value is None else max(-INT32_MAX, min(INT32_MAX, round(value)))


def _custom(payload: ResultPayload) -> list[str]:
    return [_key(payload), "historical"] if payload.historical else [_key(payload)]


def _key(payload: ResultPayload) -> str:
    return f"{payload.boot}/{payload.source}/{payload.seq}/{payload.model}"


def _timestamp(utc_ns: int) -> str:
    moment = EPOCH + timedelta(milliseconds=utc_ns // 1_000_000)
    return moment.isoformat(timespec="milliseconds") + "Z"
