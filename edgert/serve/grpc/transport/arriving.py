"""Messages of one call as they arrive, in pieces of any size."""

from __future__ import annotations

import struct
import zlib
from collections import deque

from edgert.errors import RequestError, UnsupportedError
from edgert.serve.grpc.transport.status import TooLargeError

_HEAD = struct.Struct(">BI")  # whether it is compressed, and its length
_WINDOW_BITS = {"identity": 0, "gzip": 31, "deflate": 15}
Message = bytes | bytearray


class ArrivingMessages:
    """Puts messages together; `whole` has those that are complete."""

    def __init__(self, limit_bytes: int) -> None:
        self.whole: deque[Message] = deque()
        self._window_bits = 0  # of zlib; 0: no message is compressed
        self._limit_bytes = limit_bytes
        self._head = b""  # of a message that has not come whole
        self._body: bytearray | None = None
        self._filled = 0
        self._is_compressed = False

    def set_encoding(self, encoding: str) -> None:
        """Say what messages may be compressed with. Raises UnsupportedError."""
        if encoding not in _WINDOW_BITS:
            raise UnsupportedError(f"Compression algorithm '{encoding}' is not supported")
        self._window_bits = _WINDOW_BITS[encoding]

    @property
    def is_partial(self) -> bool:
        """Whether a message has come in part."""
        return bool(self._head) or self._body is not None

    def feed(self, data: memoryview) -> None:
        """Take the next piece. Raises RequestError for a message that is malformed or too large."""
        while data:
            data = self._begin(data) if self._body is None else self._fill(self._body, data)

    def _begin(self, data: memoryview) -> memoryview:
        missing = _HEAD.size - len(self._head)
        self._head += bytes(data[:missing])
        data = data[missing:]
        if len(self._head) < _HEAD.size:
            return data
        flag, size = _HEAD.unpack(self._head)
        self._head = b""
        if size > self._limit_bytes:
            raise TooLargeError(f"Received message larger than max ({size} vs. {self._limit_bytes})")
        self._is_compressed = bool(flag)
        if size <= len(data):
            self._finish(bytes(data[:size]))
            return data[size:]
        self._body, self._filled = bytearray(size), 0
        return data

    def _fill(self, body: bytearray, data: memoryview) -> memoryview:
        missing = len(body) - self._filled
        piece = data[:missing]
        body[self._filled : self._filled + len(piece)] = piece
        self._filled += len(piece)
        if self._filled == len(body):
            self._body = None
            self._finish(body)
        return data[missing:]

    def _finish(self, message: Message) -> None:
        self.whole.append(self._inflated(message) if self._is_compressed else message)

    def _inflated(self, message: Message) -> bytes:
        if not self._window_bits:
            raise RequestError("a message says that it is compressed, its call does not")
        inflater = zlib.decompressobj(self._window_bits)
        try:
            whole = inflater.decompress(message, self._limit_bytes + 1)
        except zlib.error as error:
            raise RequestError(f"a message cannot be inflated: {error}") from None
        if len(whole) > self._limit_bytes:
            raise TooLargeError(f"Received message larger than max ({self._limit_bytes})")
        if not inflater.eof:
            raise RequestError("a message cannot be inflated: it ends too early")
        return whole
