"""An input's `data`: JSON of elements in lists in lists, read in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import numpy as np

from edgert.errors import RequestError
from edgert.frames.result import Array
from edgert.serve.bodies import TooLargeError

PIECE_BYTES = 1 << 18  # of JSON that is read at once: the fronts' thread waits for as long
MAX_AT_ONCE = 1 << 18  # commas and lists of what cannot be read in pieces
_MAX_NESTING = 32
_NULL = b"null"
_INTEGERS = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64}
_NATURALS = {"UINT8": 8, "UINT16": 16, "UINT32": 32}
_ELEMENTS: dict[str, Any] = {
    **{
        name: list[Annotated[int, msgspec.Meta(ge=-(2 ** (bits - 1)), le=2 ** (bits - 1) - 1)]]
        for name, bits in _INTEGERS.items()
    },
    **{name: list[Annotated[int, msgspec.Meta(ge=0, le=2**bits - 1)]] for name, bits in _NATURALS.items()},
    "UINT64": list[Annotated[int, msgspec.Meta(ge=0)]],
    "BOOL": list[bool],
    "FP32": list[float],
    "FP64": list[float],
    "BYTES": list[str],
}
_DECODERS = {datatype: msgspec.json.Decoder(kind) for datatype, kind in _ELEMENTS.items()}


def given_data(data: msgspec.Raw | None) -> bytes | None:
    """Return the JSON of `data`; None if none was given."""
    text = b"" if data is None else bytes(data)
    return text if text and text != _NULL else None


def read_data(text: bytes, datatype: str, dtype: np.dtype[Any]) -> Array:
    """Return the elements, flat; how they are nested is of no meaning.

    Raises:
        msgspec.ValidationError: an element is not of the datatype.
        OverflowError, FloatingPointError: a number is beyond it.
        RequestError, TooLargeError: it is no list, or one that cannot be read.
    """
    if not text.startswith(b"["):
        raise RequestError("Unable to parse 'data': attempt to access JSON non-array as array")
    if dtype.kind == "O":
        return np.array([element.encode() for element in _at_once(text, datatype)], dtype)
    try:
        pieces = [_array(_numbers(piece, datatype), dtype) for piece in _pieces(text)]
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, json.JSONDecodeError):  # e.g. an empty list among others
        return _array(_at_once(text, datatype), dtype)
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _pieces(text: bytes) -> Iterator[bytes]:
    """Yield lists of numbers that are not too long."""
    flat = text.translate(None, b"[]")
    start = 0
    while True:
        end = flat.find(b",", start + PIECE_BYTES)
        if end < 0:
            yield b"[%b]" % flat[start:]
            return
        yield b"[%b]" % flat[start:end]
        start = end + 1


def _numbers(piece: bytes, datatype: str) -> list[Any]:
    try:
        return _DECODERS[datatype].decode(piece)  # type: ignore[no-any-return]
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if b"NaN" not in piece and b"Infinity" not in piece:
            raise
        return _converted(_loaded(piece), datatype)


def _at_once(text: bytes, datatype: str) -> list[Any]:
    """Return elements that stand in lists of any kind."""
    if text.count(b",") + text.count(b"[") > MAX_AT_ONCE:
        raise TooLargeError(
            f"'data' may have {MAX_AT_ONCE} elements and lists where it is text, or some of its lists are "
            "empty. Send it as binary data"
        )
    try:
        return _DECODERS[datatype].decode(text)  # type: ignore[no-any-return]
    except msgspec.DecodeError:
        return _converted(_flat(_loaded(text)), datatype)


def _loaded(text: bytes) -> list[Any]:
    try:
        return msgspec.json.decode(text, type=list[Any])
    except msgspec.DecodeError:  # NaN, Infinity
        return json.loads(text)  # type: ignore[no-any-return]


def _converted(elements: list[Any], datatype: str) -> list[Any]:
    return msgspec.convert(elements, _ELEMENTS[datatype])  # type: ignore[no-any-return]


def _flat(data: list[Any]) -> list[Any]:
    """Return the elements of lists in lists. Raises RequestError."""
    for _ in range(_MAX_NESTING):
        if not any(type(element) is list for element in data):
            return data
        data = [inner for element in data for inner in (element if type(element) is list else (element,))]
    raise RequestError(f"Unable to parse 'data': lists are more than {_MAX_NESTING} deep")


def _array(elements: list[Any], dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="raise"):
        return np.array(elements, dtype)
