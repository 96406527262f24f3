"""Messages of one call as they arrive, in pieces of any size."""

from __future__ import annotations

import struct
from collections import deque
from typing import NamedTuple

from edgert.errors import RequestError, UnsupportedError
from edgert.serve.bodies import Bodies, FullError, GrowingBody, TooLargeError
from edgert.serve.body_room import BodyRoom
from edgert.serve.inflate import WINDOW_BITS, inflate_into

_HEAD = struct.Struct(">BI")  # whether it is compressed, and its length
_ENTRY_BYTES = 64  # that a message takes beside what it holds
Message = bytes | memoryview


class Compressed(NamedTuple):
    """A message that is to be inflated."""

    data: Message
    encoding: str

    def inflated(self, bodies: Bodies, limit_bytes: int) -> Message:
        """Return what it holds. Blocks. Raises RequestError, TooLargeError, FullError."""
        body = GrowingBody(bodies, limit_bytes)
        inflate_into(body, self.data, self.encoding)
        return memoryview(body)


class _Refused(NamedTuple):
    """A message that found no room, and the words for it."""

    words: str


class ArrivingMessages:
    """Puts messages together, and counts all that has come in `bodies`. Its length is how many are whole.

    One that finds no room is passed over, and refused where it would be taken.
    """

    def __init__(self, bodies: Bodies, limit_bytes: int) -> None:
        """`limit_bytes` is of one message."""
        self._bodies = bodies
        self._limit_bytes = limit_bytes
        self._whole: deque[Message | Compressed | _Refused] = deque()
        self._counted_bytes = 0  # of those that are whole
        self._encoding = ""  # empty: no message is compressed
        self._head = b""  # of a message that has not come whole
        self._body: BodyRoom | None = None
        self._skipped = 0  # bytes of a message that found no room, still to come
        self._is_compressed = False

    def __len__(self) -> int:
        return len(self._whole)

    def set_encoding(self, encoding: str) -> None:
        """Say what messages may be compressed with. Raises UnsupportedError."""
        if encoding not in (*WINDOW_BITS, "identity"):
            raise UnsupportedError(f"Compression algorithm '{encoding}' is not supported")
        self._encoding = encoding if encoding in WINDOW_BITS else ""

    @property
    def is_partial(self) -> bool:
        """Whether a message has come in part."""
        return bool(self._head or self._skipped) or self._body is not None

    @property
    def is_passing_over(self) -> bool:
        """Whether the message that arrives has found no room."""
        return self._skipped > 0

    def feed(self, data: memoryview) -> None:
        """Take the next piece.

        Raises:
            RequestError: a message is malformed.
            TooLargeError: it is too large.
            FullError: there is no room even for saying so where it is taken.
        """
        while data:
            if self._skipped:
                passed = min(self._skipped, len(data))
                self._skipped -= passed
                data = data[passed:]
            elif self._body is None:
                data = self._begin(data)
            else:
                data = self._fill(self._body, data)

    def take(self) -> Message | Compressed:
        """Return the first message that is whole. Raises FullError: it had no room; the next may."""
        message = self._whole.popleft()
        size = _ENTRY_BYTES + _counted_bytes(message)
        self._counted_bytes -= size
        self._bodies.free(size)
        if isinstance(message, _Refused):
            raise FullError(message.words)
        return message

    def close(self) -> None:
        """Forget all."""
        self._whole.clear()
        self._body = None
        self._skipped = 0
        self._bodies.free(self._counted_bytes)
        self._counted_bytes = 0

    def _begin(self, data: memoryview) -> memoryview:
        missing = _HEAD.size - len(self._head)
        self._head += bytes(data[:missing])
        data = data[missing:]
        if len(self._head) < _HEAD.size:
            return data
        flag, size = _HEAD.unpack(self._head)
        self._head = b""
        if size > self._limit_bytes:
            raise TooLargeError(
                f"Received message larger than max ({size} vs. {self._limit_bytes}: serve.limits.request_mb)"
            )
        if flag and not self._encoding:
            raise RequestError("a message says that it is compressed, its call does not")
        self._is_compressed = bool(flag)
        if size <= len(data):
            self._finish(bytes(data[:size]))
            return data[size:]
        try:
            self._body = BodyRoom(self._bodies, size)
        except FullError as error:
            self._pass_over(size, str(error))
        return data

    def _fill(self, body: BodyRoom, data: memoryview) -> memoryview:
        missing = len(body) - body.filled
        try:
            body.add(data[:missing])
        except FullError as error:
            self._body = None
            self._pass_over(missing, str(error))
            return data
        if body.filled == len(body):
            self._body = None
            self._finish(body.whole)
        return data[missing:]

    def _finish(self, data: Message) -> None:
        message = Compressed(data, self._encoding) if self._is_compressed else data
        try:
            self._put(message)
        except FullError as error:
            self._pass_over(0, str(error))

    def _pass_over(self, rest_bytes: int, words: str) -> None:
        self._skipped = rest_bytes
        self._put(_Refused(words))

    def _put(self, message: Message | Compressed | _Refused) -> None:
        size = _ENTRY_BYTES + _counted_bytes(message)
        self._bodies.take(size)
        self._counted_bytes += size
        self._whole.append(message)


def _counted_bytes(message: Message | Compressed | _Refused) -> int:
    """Return what is to be counted as long as a message waits; what came in pieces counts by itself."""
    if isinstance(message, _Refused):
        return len(message.words)
    data = message.data if isinstance(message, Compressed) else message
    return len(data) if isinstance(data, bytes) else 0
