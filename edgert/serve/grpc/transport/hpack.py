"""Reads headers that HPACK (RFC 7541) has compressed."""

from __future__ import annotations

from collections import deque

from edgert.serve.grpc.transport.hpack_table import STATIC_TABLE
from edgert.serve.grpc.transport.http2 import ErrorCode, Http2Error
from edgert.serve.grpc.transport.huffman import decode_huffman

TABLE_BYTES = 4096  # of the dynamic table, at most
_ENTRY_BYTES = 32  # that an entry counts beside its text
_MAX_NUMBER_BYTES = 5
_MAX_REMEMBERED = 64
_MAX_REMEMBERED_BYTES = 256  # of a block
_STATIC = len(STATIC_TABLE)
Headers = dict[bytes, bytes]


class HeaderDecoder:
    """The state of one connection. Short blocks that do not change the table are remembered."""

    def __init__(self, max_bytes: int, max_headers: int) -> None:
        """Limits of one block when it is read."""
        self._max_bytes = max_bytes
        self._max_headers = max_headers
        self._table: deque[tuple[bytes, bytes]] = deque()  # the newest first
        self._table_bytes = 0
        self._table_limit = TABLE_BYTES
        self._remembered: dict[bytes, Headers] = {}
        self._is_changed = False

    def decode(self, block: bytes) -> Headers | None:
        """Return the headers of a block; of two of one name the last. Nobody may change it.

        None: they are over the limits. Raises Http2Error if they are malformed.
        """
        headers = self._remembered.get(block)
        if headers is not None:
            return headers
        self._is_changed = False
        headers = self._read(block)
        if headers is None:
            return None
        if self._is_changed or len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        if not self._is_changed and len(block) <= _MAX_REMEMBERED_BYTES:
            self._remembered[block] = headers
        return headers

    def _read(self, block: bytes) -> Headers | None:
        """Read to the end in any case: the table is to be as the client has it."""
        headers: Headers = {}
        at = size = count = 0
        while at < len(block):
            header, at = self._field(block, at)
            if header is None:
                continue
            count += 1
            size += len(header[0]) + len(header[1]) + _ENTRY_BYTES
            if size <= self._max_bytes and count <= self._max_headers:
                headers[header[0]] = header[1]
        return headers if size <= self._max_bytes and count <= self._max_headers else None

    def _field(self, block: bytes, at: int) -> tuple[tuple[bytes, bytes] | None, int]:
        first = block[at]
        if first & 0x80:
            index, at = _number(block, at, 7)
            return self._entry(index), at
        if first & 0xE0 == 0x20:
            limit, at = _number(block, at, 5)
            self._resize(limit)
            return None, at
        is_kept = bool(first & 0x40)
        index, at = _number(block, at, 6 if is_kept else 4)
        name, at = (self._entry(index)[0], at) if index else _text(block, at)
        value, at = _text(block, at)
        if is_kept:
            self._keep((name, value))
        return (name, value), at

    def _entry(self, index: int) -> tuple[bytes, bytes]:
        if 1 <= index <= _STATIC:
            return STATIC_TABLE[index - 1]
        if _STATIC < index <= _STATIC + len(self._table):
            return self._table[index - _STATIC - 1]
        raise _malformed("a header is not in the table")

    def _keep(self, entry: tuple[bytes, bytes]) -> None:
        self._is_changed = True
        self._table.appendleft(entry)
        self._table_bytes += _size(entry)
        self._evict()

    def _resize(self, limit: int) -> None:
        if limit > TABLE_BYTES:
            raise _malformed("the table of headers is too large")
        self._is_changed = True
        self._table_limit = limit
        self._evict()

    def _evict(self) -> None:
        while self._table_bytes > self._table_limit:
            self._table_bytes -= _size(self._table.pop())


def _size(entry: tuple[bytes, bytes]) -> int:
    return len(entry[0]) + len(entry[1]) + _ENTRY_BYTES


def _number(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return an integer that begins in the low `bits` of a byte (section 5.1), and the place after it."""
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for index, byte in enumerate(block[at : at + _MAX_NUMBER_BYTES]):
        value += (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise _malformed("a number in a header is malformed")


def _text(block: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(block):
        raise _malformed("a header ends too early")
    is_huffman = block[at] & 0x80
    size, at = _number(block, at, 7)
    if at + size > len(block):
        raise _malformed("a header ends too early")
    data = block[at : at + size]
    return decode_huffman(data) if is_huffman else data, at + size


def _malformed(what: str) -> Http2Error:
    return Http2Error(ErrorCode.COMPRESSION_ERROR, what)
