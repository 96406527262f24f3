"""Received bytes become frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from edgert.serve.grpc.transport.http2 import (
    ACK,
    END_HEADERS,
    HEAD_BYTES,
    MAX_FRAME_BYTES,
    MAX_STREAM_ID,
    PADDED,
    PREFACE,
    PRIORITIZED,
    ErrorCode,
    Http2Error,
    Kind,
)

_HEAD = struct.Struct(">IBI")  # length and type, flags, stream
_PRIORITY_BYTES = 5
_WHOLE = (Kind.DATA, Kind.WINDOW_UPDATE)  # but for padding
_SHAPED = PADDED | PRIORITIZED


class Frame(NamedTuple):
    """A frame without padding and priority. Headers are whole; `content` is valid only until the next."""

    kind: int
    flags: int
    stream: int
    content: memoryview
    size: int  # that counts in windows, padding included


_PREFACE = Frame(Kind.SETTINGS, 0, 0, memoryview(b""), 0)  # what the first frame belongs to


class FrameReader:
    """Cuts a connection's bytes into frames."""

    def __init__(self, max_block_bytes: int) -> None:
        """`max_block_bytes` is the limit of the compressed headers of one call."""
        self.has_preface = False
        self._rest = b""
        self._block = b""  # headers that have not come whole
        self._block_of: Frame | None = _PREFACE  # what goes on
        self._max_block_bytes = max_block_bytes

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now. Raises Http2Error."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        start = 0
        if not self.has_preface:
            start = self._read_preface(data)
            if not start:
                self._rest = data
                return
        view, end = memoryview(data), len(data)
        while end - start >= HEAD_BYTES:
            length_and_kind, flags, stream = _HEAD.unpack_from(data, start)
            size, kind = length_and_kind >> 8, length_and_kind & 0xFF
            if size > MAX_FRAME_BYTES:
                raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, f"a frame has {size} bytes")
            after = start + HEAD_BYTES + size
            if after > end:
                break
            content = view[start + HEAD_BYTES : after]
            start = after
            read = Frame(kind, flags, stream & MAX_STREAM_ID, content, size)
            if self._block_of is None and kind in _WHOLE and not flags & _SHAPED:
                yield read
            elif (whole := self._whole(read)) is not None:
                yield whole
        self._rest = data[start:]

    def _read_preface(self, data: bytes) -> int:
        """Return where frames begin; 0 if the preface has not come whole."""
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise Http2Error(ErrorCode.PROTOCOL_ERROR, "the client does not speak HTTP/2")
        if len(data) < len(PREFACE):
            return 0
        self.has_preface = True
        return len(PREFACE)

    def _whole(self, read: Frame) -> Frame | None:
        """Return a frame as it is to be handled; None if the rest of it is still to come."""
        if self._block_of is _PREFACE:
            if read.kind != Kind.SETTINGS or read.flags & ACK:
                raise _malformed("the first frame is not SETTINGS")
            self._block_of = None
            return read
        if self._block_of is not None:
            return self._continued(self._block_of, read)
        if read.kind == Kind.CONTINUATION:
            raise _malformed("a CONTINUATION continues nothing")
        if read.kind in (Kind.DATA, Kind.HEADERS) and read.flags & _SHAPED:
            read = _bared(read)
        if read.kind != Kind.HEADERS or read.flags & END_HEADERS:
            return read
        self._block, self._block_of = bytes(read.content), read
        return None

    def _continued(self, begun: Frame, read: Frame) -> Frame | None:
        if read.kind != Kind.CONTINUATION or read.stream != begun.stream:
            raise _malformed("headers are interrupted")
        self._block += read.content
        if len(self._block) > self._max_block_bytes or not read.size:
            raise Http2Error(ErrorCode.ENHANCE_YOUR_CALM, "a call's headers are over the limit")
        if not read.flags & END_HEADERS:
            return None
        whole = begun._replace(content=memoryview(self._block))
        self._block, self._block_of = b"", None
        return whole


def _bared(read: Frame) -> Frame:
    """Return a frame without padding and priority."""
    content = read.content
    if read.flags & PADDED:
        if not content or content[0] >= len(content):
            raise _malformed("a frame's padding is longer than the frame")
        content = content[1 : len(content) - content[0]]
    if read.kind == Kind.HEADERS and read.flags & PRIORITIZED:
        if len(content) < _PRIORITY_BYTES:
            raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "headers are too short")
        content = content[_PRIORITY_BYTES:]
    return read._replace(content=content)


def _malformed(what: str) -> Http2Error:
    return Http2Error(ErrorCode.PROTOCOL_ERROR, what)
