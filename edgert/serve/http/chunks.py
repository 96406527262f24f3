"""Bodies that come in chunks (RFC 9112, section 7.1)."""

from __future__ import annotations

import re

from edgert.serve.bodies import GrowingBody
from edgert.serve.http.message import RefusedError

_MAX_LINE = 1024  # of a chunk's length with its extensions, and of a trailer
_MAX_TRAILERS = 64
_LENGTH = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class ChunkedBody:
    """Puts chunks together, up to `limit_bytes`. `body` is whole once `is_complete`."""

    def __init__(self, limit_bytes: int, body: GrowingBody | None) -> None:
        """Without `body` the chunks are only counted."""
        self.body = body
        self.is_complete = False
        self._limit_bytes = limit_bytes
        self._left = 0  # of the chunk that is under way, its line end not counted
        self._came = 0
        self._is_in_chunk = False
        self._is_in_trailers = False
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """Take what is whole in `data`, and return the rest: what follows the body, or is to come again.

        Raises:
            RefusedError: the chunks are malformed, or too long in all.
            FullError: there is no room for them.
        """
        start = 0
        while not self.is_complete:
            taken = self._step(data, start)
            if not taken:
                break
            start += taken
        return data[start:]

    def _step(self, data: bytes, start: int) -> int:
        """Take one piece at `start`, and return its length; 0 if it is not there yet."""
        if self._is_in_chunk:
            return self._content(data, start) if self._left else self._line_end(data, start)
        line = self._line(data, start)
        if line is None:
            return 0
        if self._is_in_trailers:
            self._pass_trailer(line)
        else:
            self._begin_chunk(line)
        return len(line) + 2

    def _pass_trailer(self, line: bytes) -> None:
        self.is_complete = not line
        self._trailers += 1
        if self._trailers > _MAX_TRAILERS:
            raise RefusedError(431, "too_many_headers", f"a request may have {_MAX_TRAILERS} trailers")

    def _content(self, data: bytes, start: int) -> int:
        piece = memoryview(data)[start : start + self._left]
        if self.body is not None:
            self.body.add(piece)
        self._left -= len(piece)
        return len(piece)

    def _line_end(self, data: bytes, start: int) -> int:
        end = data[start : start + 2]
        if len(end) < 2:
            return 0
        if end != b"\r\n":
            raise RefusedError(400, "malformed", "malformed request: a chunk is longer than it says")
        self._is_in_chunk = False
        return 2

    def _line(self, data: bytes, start: int) -> bytes | None:
        end = data.find(b"\r\n", start, start + _MAX_LINE)
        if end < 0 and len(data) - start >= _MAX_LINE:
            raise RefusedError(400, "malformed", "malformed request: a chunk's line is too long")
        return None if end < 0 else data[start:end]

    def _begin_chunk(self, line: bytes) -> None:
        match = _LENGTH.fullmatch(line)
        if match is None:
            raise RefusedError(400, "malformed", "malformed request: a chunk has no length")
        self._left = int(match[1], 16)
        self._came += self._left
        if self._came > self._limit_bytes:
            raise RefusedError(
                413,
                "body_too_large",
                f"a request may have {self._limit_bytes} bytes (serve.limits.request_mb); more came",
            )
        self._is_in_trailers = not self._left
        self._is_in_chunk = not self._is_in_trailers
