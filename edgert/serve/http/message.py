"""Requests' heads, answers, and which status an error has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec

from edgert.errors import (
    CancelledError,
    EdgertError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.serve.bodies import FullError, TooLargeError

JSON = "application/json"
BINARY = "application/octet-stream"
TEXT = "text/plain"
CLIENT_CLOSED = 499  # no standard has it; nobody reads it
Buffer = bytes | bytearray | memoryview
Room = Callable[[int], Buffer]
WORTH_COUNTING = 1 << 16  # bytes of an answer; a connection takes that much anyway
_STEP = 1 << 22  # bytes that are copied while other threads wait
_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {CLIENT_CLOSED: "Client Closed Request"}
_STATUSES = (  # the first class that fits
    (TooLargeError, 413),
    (UnknownModelError, 404),
    (UnavailableError, 503),
    (UnsupportedError, 501),
    (CancelledError, CLIENT_CLOSED),
    (RequestError, 400),
)


class RefusedError(RequestError):
    """A request that HTTP itself has a status for. `reason` is what it is counted under."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Head(msgspec.Struct, frozen=True):
    """A request without its body."""

    method: str
    path: str
    headers: dict[bytes, bytes]  # names in lower case; of two of one name the last
    body_bytes: int | None  # None: it comes in chunks
    is_kept_alive: bool
    is_http_1_0: bool = False
    query: str = ""  # what follows the path's question mark

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends its body only once it is told to."""
        return not self.is_http_1_0 and self.headers.get(b"expect", b"").lower() == b"100-continue"


class Answer(msgspec.Struct, frozen=True):
    """What a client gets. The body's buffers are read by `encode_answer`, not later."""

    status: int = 200
    body: Sequence[Buffer] = ()
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body_bytes(self) -> int:
        """How long the body is."""
        size = 0
        for piece in self.body:
            size += piece.nbytes if isinstance(piece, memoryview) else len(piece)
        return size


def stopping() -> RefusedError:
    """Return what a client hears whose request comes, or would be answered, too late."""
    return RefusedError(503, "stopping", "The server is stopping.")


def json_answer(value: object, status: int = 200) -> Answer:
    """Return `value` as JSON."""
    return Answer(status, (msgspec.json.encode(value),))


def error_answer(error: EdgertError) -> Answer:
    """Return `{"error": ...}` with the error's status."""
    status = status_of(error)
    headers = (("Retry-After", "1"),) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    return Answer(status, (msgspec.json.encode({"error": str(error)}),), JSON, headers)


def status_of(error: EdgertError) -> int:
    """Return the HTTP status; 500 for what is not the client's fault."""
    if isinstance(error, RefusedError):
        return error.code
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def refusal_of(error: EdgertError) -> str:
    """Return what the front counts an error of its own under; empty for one of the request's."""
    if isinstance(error, RefusedError):
        return error.reason
    return error.status if isinstance(error, FullError | TooLargeError) else ""


def encode_answer(
    answer: Answer, *, connection: str = "", is_head: bool = False, room: Room = bytearray
) -> bytes | memoryview:
    """Return head and body as they go over the wire: the one copy of the body's buffers.

    `connection` is that header's value; empty: there is none. What is long is written into `room`.
    """
    size = answer.body_bytes
    lines = [f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\nContent-Type: {answer.content_type}\r\n"]
    lines += map("%s: %s\r\n".__mod__, answer.headers)
    if connection:
        lines.append(f"Connection: {connection}\r\n")
    lines.append(f"Content-Length: {size}\r\n\r\n")
    head = "".join(lines).encode("latin-1", "replace")
    if is_head:
        return head
    if size <= WORTH_COUNTING:
        return b"".join((head, *answer.body))
    place = memoryview(room(len(head) + size))
    start = 0
    for piece in (head, *answer.body):
        data = memoryview(piece).cast("B")
        for at in range(0, len(data), _STEP):
            step = data[at : at + _STEP]
            place[start : start + len(step)] = step
            start += len(step)
    return place
