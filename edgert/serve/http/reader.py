"""Received bytes become requests, one after the other."""

from __future__ import annotations

import numpy as np

from edgert.serve.bodies import Bodies, GrowingBody
from edgert.serve.body_room import ALIGNMENT, BodyRoom
from edgert.serve.http.chunks import ChunkedBody
from edgert.serve.http.message import Head, RefusedError
from edgert.serve.http.request_head import parse_head
from edgert.serve.options import LimitOptions

_REMEMBERED_BYTES = 1 << 12  # of a head, for each connection
_HEAD_END = b"\r\n\r\n"
_WORTH_COUNTING = 1 << 14  # bytes; how many smaller bodies there are, the connections bound
_STEP = 1 << 16  # bytes that are received at once, at least


class RequestReader:
    """Reads one connection. A body of known length is received in the place where its tensors are read.

    Call `read_head` until it has a head, `begin_body`, then `read_body` until it has the body; between
    these calls bytes are received into `buffer` and reported with `received`. Does no input or output.
    """

    def __init__(self, limits: LimitOptions, scratch: memoryview, bodies: Bodies) -> None:
        """`scratch` may be shared by readers of one thread: it is read in `received`."""
        self._limits = limits
        self._bodies = bodies
        self._scratch = scratch
        self._pending = b""  # received, not looked at
        self._last_text = b""
        self._last_head: Head | None = None
        self._body: memoryview | None = None  # a small one
        self._filled = 0
        self._room: BodyRoom | None = None  # of another
        self._skipped = 0  # bytes of a body that nobody wants, still to come
        self._chunks: ChunkedBody | None = None

    @property
    def pending_bytes(self) -> int:
        """How much has come of the next request."""
        return len(self._pending)

    @property
    def has_begun_body(self) -> bool:
        """Whether some of the body has come."""
        return bool(self._pending or self._filled or (self._room is not None and self._room.filled))

    def buffer(self) -> memoryview:
        """Return where the next bytes are to go."""
        if self._room is not None:
            return self._room.open
        if self._body is not None and self._filled < len(self._body):
            return self._body[self._filled :]
        return self._scratch

    def received(self, count: int) -> None:
        """Take in `count` bytes that `buffer` got."""
        if self._room is not None:
            self._room.filled += count
        elif self._body is not None and self._filled < len(self._body):
            self._filled += count
        else:
            self._pending += self._scratch[:count]

    def read_head(self) -> Head | None:
        """Return the next request's head, or None if it has not come yet. Raises RefusedError.

        The same few bytes as last time are the same object.
        """
        if self._pending.startswith((b"\r", b"\n")):  # some clients end a body with an empty line
            self._pending = self._pending.lstrip(b"\r\n")
        limit = self._limits.header_kb * 1024
        end = self._pending.find(_HEAD_END, 0, limit)
        if end < 0:
            if len(self._pending) >= limit:
                raise RefusedError(431, "head_too_large", f"a request's head may have {limit} bytes")
            return None
        end += len(_HEAD_END)
        text, self._pending = self._pending[:end], self._pending[end:]
        if len(text) > _REMEMBERED_BYTES:
            return parse_head(text, self._limits)
        if self._last_head is None or text != self._last_text:
            self._last_head, self._last_text = parse_head(text, self._limits), text
        return self._last_head

    def begin_body(self, head: Head, *, is_wanted: bool) -> None:
        """Prepare for the body; an unwanted one is passed over, or what is still to come of it.

        Raises:
            RefusedError: it is too long.
            FullError: there is no room for what has come; say so again, that it is unwanted.
        """
        limit = self._limits.request_mb << 20
        if head.body_bytes is None:
            self._chunks = ChunkedBody(limit, GrowingBody(self._bodies, limit) if is_wanted else None)
        elif head.body_bytes > limit:
            raise RefusedError(
                413,
                "body_too_large",
                f"a request may have {limit} bytes (serve.limits.request_mb); this one has {head.body_bytes}",
            )
        elif is_wanted and head.body_bytes:
            self._place_body(head, head.body_bytes)
        else:
            self._skipped = head.body_bytes - (self._room.filled if self._room is not None else 0)
            self._room = None

    def read_body(self) -> memoryview | None:
        """Return the body, empty if unwanted, or None if it has not come yet.

        Raises:
            RefusedError: it is malformed, or too long.
            FullError: there is no more room; one of known length may be passed over.
        """
        if self._room is not None:
            return self._read_room(self._room)
        if self._chunks is not None:
            return self._read_chunks(self._chunks)
        if self._skipped:
            passed = min(self._skipped, len(self._pending))
            self._pending = self._pending[passed:]
            self._skipped -= passed
            return None if self._skipped else memoryview(b"")
        body = self._body
        if body is None:
            return memoryview(b"")
        if self._filled < len(body):
            return None
        self._body = None
        self._filled = 0
        return body

    def _place_body(self, head: Head, length: int) -> None:
        """Choose the place so that the tensors behind a JSON header begin on a whole address.

        Raises FullError.
        """
        header = head.headers.get(b"inference-header-content-length", b"")
        before = int(header) if header.isdigit() and len(header) < len(str(length)) + 1 else 0
        if length > _WORTH_COUNTING:
            room = BodyRoom(self._bodies, length, before=before)
            room.add(memoryview(self._pending)[:length])
            self._room, self._pending = room, self._pending[length:]
            return
        place = np.empty(length + ALIGNMENT, np.uint8).data
        start = -before % ALIGNMENT  # its address is a multiple of 16, which is enough here
        self._body = body = place[start : start + length]
        pending = self._pending
        self._filled = filled = min(length, len(pending))
        body[:filled] = pending[:filled]
        self._pending = pending[filled:]

    def _read_room(self, room: BodyRoom) -> memoryview | None:
        if room.filled < len(room):
            if room.is_full:
                room.widen(_STEP)
            return None
        self._room = None
        return room.whole

    def _read_chunks(self, chunks: ChunkedBody) -> memoryview | None:
        self._pending = chunks.feed(self._pending)
        if not chunks.is_complete:
            return None
        self._chunks = None
        return memoryview(chunks.body or b"")
