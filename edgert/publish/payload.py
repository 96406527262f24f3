"""A result as a payload: the wire format `edgert.result/1`, described in result.schema.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from edgert.frames.result import Array, Classes, Detections, Result, Tensors, label_of

SCHEMA = "edgert.result/1"
BOX_DECIMALS = 1  # a tenth of a pixel
SCORE_DECIMALS = 4


class DetectionPayload(msgspec.Struct, gc=False, omit_defaults=True):
    """One box; coordinates in source pixels. A number that is not finite becomes null."""

    label: str
    class_index: int
    score: float
    box_xyxy_px: list[float]
    landmarks_xy_px: list[list[float]] | None = None


class ClassPayload(msgspec.Struct, gc=False):
    """One of the best classes."""

    label: str
    class_index: int
    score: float


class TensorPayload(msgspec.Struct, gc=False):
    """One raw output; `data` is flat, in C order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: list[Any]


class ResultPayload(msgspec.Struct, gc=False, kw_only=True):
    """What is published for one result. (`boot`, `source`, `seq`, `model`) is its key."""

    schema: str
    node: str
    boot: str
    source: str
    seq: int
    model: str
    version: int
    captured_utc_ns: int
    published_utc_ns: int
    latency_ms: float
    historical: bool
    size: tuple[int, int]
    detections: list[DetectionPayload] | UnsetType = UNSET
    classes: list[ClassPayload] | UnsetType = UNSET
    tensors: list[TensorPayload] | UnsetType = UNSET


class PayloadBuilder:
    """Makes the payloads of a node's results, before they become bytes. Any thread."""

    def __init__(
        self,
        node: str,
        boot: str,
        utc_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._node = node
        self._boot = boot
        self._utc_ns = utc_ns
        self._mono_ns = mono_ns

    def build(self, result: Result, historical: bool = False) -> ResultPayload:
        """Return the payload of `result`, published now. `historical` marks one that is not live."""
        payload = ResultPayload(
            schema=SCHEMA,
            node=self._node,
            boot=result.boot or self._boot,
            source=result.source,
            seq=result.seq,
            model=result.model,
            version=result.version,
            captured_utc_ns=result.captured_utc_ns,
            published_utc_ns=self._utc_ns(),
            latency_ms=round((self._mono_ns() - result.captured_mono_ns) / 1e6, 3),
            historical=historical,
            size=(result.width, result.height),
        )
        _fill(payload, result)
        return payload


class ResultEncoder:
    """The Encoder of JSON. Keeps a buffer for reuse, so each thread needs one of its own."""

    content_type = "application/json"

    def __init__(
        self,
        node: str,
        boot: str,
        utc_ns: Callable[[], int] = time.time_ns,
        mono_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._builder = PayloadBuilder(node, boot, utc_ns, mono_ns)
        self._encode = msgspec.json.Encoder().encode

    def encode(self, result: Result, historical: bool = False) -> bytes:
        """Return the JSON of `result`, published now. `historical` marks one that is not live."""
        return self._encode(self._builder.build(result, historical))


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the payload."""
    return read_schema("result")


def read_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema in `<name>.schema.json`, which ships beside this module."""
    text = Path(__file__).with_name(f"{name}.schema.json").read_bytes()
    schema: dict[str, Any] = msgspec.json.decode(text)
    return schema


def _fill(payload: ResultPayload, result: Result) -> None:
    output = result.output
    if isinstance(output, Detections):
        payload.detections = _detections(output)
    elif isinstance(output, Classes):
        payload.classes = _classes(output)
    else:
        payload.tensors = _tensors(output)


def _detections(output: Detections) -> list[DetectionPayload]:
    indices: list[int] = output.class_indices.tolist()
    names = _names(output.labels, indices)
    scores = _rounded(output.scores, SCORE_DECIMALS)
    boxes = _rounded(output.boxes_xyxy_px, BOX_DECIMALS)
    if output.landmarks_xy_px is None:
        return list(map(DetectionPayload, names, indices, scores, boxes))
    landmarks = _rounded(output.landmarks_xy_px, BOX_DECIMALS)
    return list(map(DetectionPayload, names, indices, scores, boxes, landmarks))


def _classes(output: Classes) -> list[ClassPayload]:
    indices: list[int] = output.class_indices.tolist()
    scores = _rounded(output.scores, SCORE_DECIMALS)
    return list(map(ClassPayload, _names(output.labels, indices), indices, scores))


def _tensors(output: Tensors) -> list[TensorPayload]:
    return [
        TensorPayload(name, array.dtype.name, array.shape, _flat(array))
        for name, array in output.tensors.items()
    ]


def _names(labels: Sequence[str], indices: list[int]) -> list[str]:
    return [label_of(labels, index) for index in indices]


def _rounded(values: Array, decimals: int) -> list[Any]:
    """Round as float64: a rounded float32 would be written with all its digits again."""
    return _listed(values.astype(np.float64).round(decimals))


def _flat(array: Array) -> list[Any]:
    values = _listed(array.ravel())
    return [_text(value) for value in values] if array.dtype.kind in "SO" else values


def _listed(array: Array) -> list[Any]:
    """Return Python's values, with None for what is not finite: not every encoding does that itself."""
    is_finite = np.isfinite(array) if array.dtype.kind == "f" else True
    if not np.all(is_finite):
        array = array.astype(object)
        array[~is_finite] = None
    values: list[Any] = array.tolist()
    return values


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
