"""HTTP/2's frames (RFC 9113), as far as a server of gRPC needs them."""

from __future__ import annotations

import struct
from enum import IntEnum

from edgert.errors import RequestError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9  # of a frame
DEFAULT_WINDOW = 65_535
MAX_WINDOW = (1 << 31) - 1
MAX_FRAME_BYTES = 1 << 14  # of what is received; the least that every peer has to allow
MAX_STREAM_ID = (1 << 31) - 1
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class ErrorCode(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(IntEnum):
    """Settings that either side may announce."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Http2Error(RequestError):
    """What a peer does makes no sense; its connection ends."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


_NUMBER = struct.Struct(">I")
_SETTING = struct.Struct(">HI")
_HEAD = struct.Struct(">IBI")  # length and type, flags, stream


def frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the nine bytes before a frame's content."""
    return _HEAD.pack(size << 8 | kind, flags, stream)


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return a whole frame."""
    return frame_head(len(content), kind, flags, stream) + content


def settings_frame(settings: dict[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    content = b"".join(_SETTING.pack(setting, value) for setting, value in settings.items())
    return frame(Kind.SETTINGS, 0, 0, content)


def read_settings(content: bytes) -> list[tuple[int, int]]:
    """Return what a SETTINGS frame announces. Raises Http2Error."""
    if len(content) % _SETTING.size:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a SETTINGS frame has a part of a setting")
    return list(_SETTING.iter_unpack(content))


def window_frame(stream: int, more_bytes: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, _NUMBER.pack(more_bytes))


def reset_frame(stream: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway_frame(last_stream: int, code: ErrorCode, words: str = "") -> bytes:
    """Return a GOAWAY frame."""
    return frame(Kind.GOAWAY, 0, 0, _NUMBER.pack(last_stream) + _NUMBER.pack(code) + words.encode())


def read_number(content: bytes | memoryview) -> int:
    """Return the one number of a WINDOW_UPDATE or RST_STREAM frame, 31 bits of it. Raises Http2Error."""
    if len(content) != _NUMBER.size:
        raise Http2Error(ErrorCode.FRAME_SIZE_ERROR, "a frame has the wrong length")
    number: int = _NUMBER.unpack(content)[0]
    return number & MAX_WINDOW
