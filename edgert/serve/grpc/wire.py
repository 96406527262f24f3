"""Protobuf's bytes where a class would copy tensors: raw contents are cut out and put in by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from edgert.errors import RequestError
from edgert.serve.grpc.messages import INFERENCE_MESSAGES
from edgert.serve.grpc.transport.arriving import Message

RAW_INPUT_TAG = 0x3A  # field 7 of ModelInferRequest, length-delimited
RAW_OUTPUT_TAG = b"\x32"  # field 6 of ModelInferResponse
STREAM_RESPONSE_TAG = b"\x12"  # field 2 of ModelStreamInferResponse
_DELIMITED = 2  # the wire type of a field that begins with its length
_MORE = 0x80  # another byte of the number follows
_MAX_NUMBER = 10  # bytes
WORTH_CUTTING_BYTES = 4096  # what is smaller is copied faster than cut out
MAX_FIELDS = 4096  # of a request; a loop over more would hold up all others

_Request = INFERENCE_MESSAGES["ModelInferRequest"]
Buffer = bytes | memoryview


class Cut(NamedTuple):
    """A ModelInferRequest without its raw contents, and those as views; None: they are still in it."""

    head: bytes
    raws: list[memoryview] | None


def cut(data: Message) -> Cut:
    """Take the raw contents out of a ModelInferRequest where that is worth it."""
    return Cut(bytes(data), None) if len(data) < WORTH_CUTTING_BYTES else _cut(data)


def read_request(pieces: Cut) -> tuple[Any, Sequence[memoryview | bytes]]:
    """Return a ModelInferRequest and its raw contents. Raises RequestError if it is none."""
    try:
        request = _Request.FromString(pieces.head)
    except DecodeError:
        raise RequestError("Unable to parse request") from None
    return request, request.raw_input_contents if pieces.raws is None else pieces.raws


def request_id_of(data: Message) -> str:
    """Return the id of a ModelInferRequest, for the message that something is wrong with it."""
    try:
        request_id: str = _Request.FromString(bytes(data)).id
    except DecodeError:
        return ""
    return request_id


def number(value: int) -> bytes:
    """Return a varint."""
    if value < _MORE:
        return bytes((value,))
    written = bytearray()
    while value >= _MORE:
        written.append((value & 0x7F) | _MORE)
        value >>= 7
    written.append(value)
    return bytes(written)


def field(tag: bytes, pieces: Sequence[Buffer]) -> list[Buffer]:
    """Return a field that holds `pieces` one after the other; views must be of bytes."""
    return [tag, number(sum(map(len, pieces))), *pieces]


def _cut(data: Message) -> Cut:
    view = memoryview(data).toreadonly()
    rest: list[memoryview] = []
    raws: list[memoryview] = []
    kept = at = 0
    for _ in range(MAX_FIELDS):
        if at >= len(data):
            break
        start, tag = at, data[at]
        if tag & 7 != _DELIMITED or tag >= _MORE:
            return Cut(bytes(data), None)
        size, at = _number(data, at + 1)
        if tag == RAW_INPUT_TAG:
            rest.append(view[kept:start])
            raws.append(view[at : at + size])
            kept = at + size
        at += size
    if at != len(data):
        return Cut(bytes(data), None)
    return Cut(b"".join([*rest, view[kept:]]), raws)


def _number(data: Message, at: int) -> tuple[int, int]:
    """Return the varint at a place and the place after it; a number too large for `data` if it is none."""
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_NUMBER]):
        value |= (byte & 0x7F) << 7 * index
        if byte < _MORE:
            return value, at + index + 1
    return len(data) + 1, at
