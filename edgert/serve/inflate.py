"""Inflates bodies, within their bounds."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

from edgert.errors import RequestError
from edgert.serve.bodies import GrowingBody

WINDOW_BITS = {"gzip": 31, "deflate": 15}
_STEP = 1 << 16  # bytes in and, at most, out


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


def inflate_into(body: GrowingBody, data: bytes | memoryview, encoding: str) -> None:
    """Append what `data` holds. Blocks.

    Raises:
        RequestError: it is not one whole stream.
        TooLargeError, FullError: it holds more than `body` may.
    """
    inflater = zlib.decompressobj(WINDOW_BITS[encoding])
    try:
        for piece in _pieces(inflater, memoryview(data)):
            body.add(piece)
    except zlib.error as error:
        raise RequestError(f"what came is no {encoding}: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise RequestError(f"what came is not one whole {encoding} stream")


def _pieces(inflater: _Inflater, data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), _STEP):
        if inflater.eof:
            raise zlib.error("more follows its end")
        rest: bytes | memoryview = data[start : start + _STEP]
        piece = b""
        while rest or len(piece) == _STEP:  # a whole piece: there may be more that waits
            piece = inflater.decompress(rest, _STEP)
            rest = inflater.unconsumed_tail
            yield piece
