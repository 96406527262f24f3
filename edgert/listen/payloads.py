"""Reads what nodes publish, as JSON or MessagePack. MQTT 3.1.1 says no type, so the first byte decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgert.publish.payload import SCHEMA

MOST_LABELS = 8  # of one result that are shown

_LONGEST_MS = 1e12  # more than a lifetime; with it, nanoseconds fit in 64 bits
_MAP_BYTES = (*range(0x80, 0x90), 0xDE, 0xDF)  # how a map begins in MessagePack; JSON is ASCII there


class PayloadError(ValueError):
    """A payload that is not what its topic promises."""


class Scored(msgspec.Struct, gc=False):
    """A detection or class, as far as it is shown."""

    label: str
    score: float | None = None  # None: it was not finite


class HeardResult(msgspec.Struct, gc=False, kw_only=True):
    """A result, as far as it is counted and shown."""

    schema: str
    boot: str
    source: str
    seq: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    model: str
    latency_ms: Annotated[float, Meta(ge=-_LONGEST_MS, le=_LONGEST_MS)]
    historical: bool = False
    detections: list[Scored] | None = None
    classes: list[Scored] | None = None
    tensors: list[Any] | None = None


class Findings(msgspec.Struct, frozen=True):
    """What is shown of one result's outputs."""

    kind: str = ""  # detections, classes or tensors
    counts: tuple[tuple[str, int], ...] = ()  # the most frequent labels; of classes, the best ones
    total: int = 0
    best_score: float | None = None


class HeardPart(msgspec.Struct):
    """The retained state of a source or model."""

    state: str
    reason: str = ""
    versions: list[int] = []


class Birth(msgspec.Struct):
    """What a node retains about its start."""

    boot: str = ""
    started_utc_ns: int = 0
    versions: dict[str, str] = {}


class _Readers:
    """Two decoders of one type."""

    def __init__(self, kind: Any) -> None:
        self._json = msgspec.json.Decoder(kind)
        self._msgpack = msgspec.msgpack.Decoder(kind)

    def read(self, payload: bytes) -> Any:
        """Return the value. Raises PayloadError."""
        decoder = self._msgpack if payload[:1] and payload[0] in _MAP_BYTES else self._json
        try:
            return decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PayloadError(str(error)) from None


_RESULTS, _PARTS, _BIRTHS, _BODIES = map(_Readers, (HeardResult, HeardPart, Birth, dict[str, Any]))


def read_result(payload: bytes) -> HeardResult:
    """Return a result. Raises PayloadError."""
    result: HeardResult = _RESULTS.read(payload)
    if result.schema != SCHEMA:
        raise PayloadError(f"schema {result.schema!r}; expected {SCHEMA!r}")
    return result


def read_part(payload: bytes) -> HeardPart:
    """Return the state of a source or model. Raises PayloadError."""
    part: HeardPart = _PARTS.read(payload)
    return part


def read_birth(payload: bytes) -> Birth:
    """Return a birth. Raises PayloadError."""
    birth: Birth = _BIRTHS.read(payload)
    return birth


def read_state(payload: bytes) -> str:
    """Return a node's state, one word. Raises PayloadError."""
    state = payload[:64].decode("ascii", "replace")
    if not state.isalpha():
        raise PayloadError(f"{state!r} is no state of a node")
    return state


def read_body(payload: bytes) -> dict[str, Any]:
    """Return all that an object has. Raises PayloadError."""
    body: dict[str, Any] = _BODIES.read(payload)
    return body


def findings_of(result: HeardResult) -> Findings:
    """Return what is shown of a result's outputs."""
    if result.detections is not None:
        most = Counter(one.label for one in result.detections).most_common(MOST_LABELS)
        return Findings("detections", tuple(most), len(result.detections), _best(result.detections))
    if result.classes is not None:
        best = tuple((one.label, 1) for one in result.classes[:1])
        return Findings("classes", best, len(result.classes), _best(result.classes))
    return Findings("tensors", total=len(result.tensors or ()))


def _best(scored: Sequence[Scored]) -> float | None:
    scores = (one.score for one in scored)
    return max((score for score in scores if score is not None and math.isfinite(score)), default=None)
