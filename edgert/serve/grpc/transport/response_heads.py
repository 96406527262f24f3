"""The headers of responses. They are the same for all, so none of them goes into HPACK's table."""

from __future__ import annotations

from urllib.parse import quote

from edgert.serve.grpc.transport.http2 import END_HEADERS, END_STREAM, Kind, frame, frame_head
from edgert.serve.grpc.transport.status import Code

_MAX_DETAILS = 1024  # characters
_STATUS_200 = b"\x88"  # an entry of HPACK's static table
_UNCHANGED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header that the peer shall not remember (RFC 7541, section 6.2.2)."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    size -= 0x7F
    head = bytearray((0x7F,))
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*head, size)) + text


_CONTENT = _literal(b"content-type", b"application/grpc")
_BEGIN = _STATUS_200 + _CONTENT + _literal(b"grpc-accept-encoding", b"identity,deflate,gzip")
_DONE = _literal(b"grpc-status", b"0")
_BEGIN_HEAD = frame_head(len(_BEGIN), Kind.HEADERS, END_HEADERS, 0)[:5]
_DONE_HEAD = frame_head(len(_DONE), Kind.HEADERS, END_HEADERS | END_STREAM, 0)[:5]


def begin_frame(stream: int) -> bytes:
    """Return the HEADERS before a response's messages."""
    return b"%b%b%b" % (_BEGIN_HEAD, stream.to_bytes(4, "big"), _BEGIN)


def done_frame(stream: int) -> bytes:
    """Return the HEADERS after the last message, when all went well."""
    return b"%b%b%b" % (_DONE_HEAD, stream.to_bytes(4, "big"), _DONE)


def failed_frame(stream: int, code: Code, details: str, *, is_first: bool) -> bytes:
    """Return the HEADERS that end a response with a status; `is_first`: nothing was sent before."""
    quoted = quote(details[:_MAX_DETAILS], safe=_UNCHANGED).encode()
    content = _literal(b"grpc-status", str(int(code)).encode()) + _literal(b"grpc-message", quoted)
    if is_first:
        content = _STATUS_200 + _CONTENT + content
    return frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, content)


def refused_frame(stream: int, http_status: int) -> bytes:
    """Return the HEADERS for what is no gRPC."""
    content = _literal(b":status", str(http_status).encode())
    return frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, content)
