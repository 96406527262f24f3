"""Answers to requests: written by any thread, sent by the source's own."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import msgspec

from edgert.errors import ClosedError, EdgertError
from edgert.frames.result import Result
from edgert.stats import LiveCount

Encode = Callable[[Result], bytes]  # a result as the payload of its answer
ONE = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; a pipe takes anything


class AnswerHeader(msgspec.Struct):
    """The first part of an answer, in JSON or msgpack as the request's header was."""

    v: int
    id: str | int | None  # the request's
    status: str  # `ok`, or an error's name such as `frame_error`
    message: str  # empty if ok
    source: str
    seq: int | None  # None: the frame got no number
    model: str | None


class Outbox:
    """Messages on their way to the one thread that may touch the socket.

    `descriptor` is readable while messages wait, so that the thread can poll for them.
    """

    live: ClassVar[LiveCount] = LiveCount("outbox")

    def __init__(self) -> None:
        self._messages: deque[list[bytes]] = deque()
        self._lock = threading.Lock()  # also keeps `put` off descriptors that were closed
        self._is_open = True
        self.descriptor, self._writing = _open_signal()
        self.live.opened()

    def put(self, message: list[bytes]) -> bool:
        """Queue a message and wake the thread; False if the socket is gone. Any thread."""
        with self._lock:
            if self._is_open:
                self._messages.append(message)
                if len(self._messages) == 1:
                    os.write(self._writing, ONE)
            return self._is_open

    def take(self) -> list[list[bytes]]:
        """Return what waits, oldest first. Never blocks."""
        if not self._messages:
            return []
        with self._lock:
            messages = list(self._messages)
            self._messages.clear()
            os.read(self.descriptor, len(ONE))
        return messages

    def close(self) -> None:
        """Refuse further messages and close the descriptors."""
        with self._lock:
            self._is_open = False
            for descriptor in {self.descriptor, self._writing}:
                os.close(descriptor)
        self.live.closed()


class Requester:
    """Where one request came from: a `Reply` that answers it once."""

    __slots__ = ("_encode", "_envelope", "_id", "_is_json", "_model", "_once", "_outbox", "_source")

    def __init__(self, outbox: Outbox, encode: Encode, source: str, envelope: list[bytes]) -> None:
        self._outbox = outbox
        self._encode = encode
        self._source = source
        self._envelope = envelope
        self._once = threading.Lock()
        self._id: str | int | None = None
        self._model: str | None = None
        self._is_json = True

    def identify(self, request_id: str | int | None, model: str | None, *, is_json: bool) -> None:
        """Say what the request's header told, so that the answer can repeat it."""
        self._id, self._model, self._is_json = request_id, model, is_json

    def answer(self, result: Result) -> None:
        """Send the result. Raises ClosedError if an answer was sent before."""
        payload = self._encode(result)
        self._send(AnswerHeader(1, self._id, "ok", "", result.source, result.seq, result.model), payload)

    def refuse(self, error: EdgertError) -> None:
        """Send the error's status and message. Raises ClosedError if an answer was sent before."""
        header = AnswerHeader(1, self._id, error.status, str(error), self._source, None, self._model)
        self._send(header, b"")

    def _send(self, header: AnswerHeader, payload: bytes) -> None:
        if not self._once.acquire(blocking=False):
            raise ClosedError("This request was answered before.")
        encode = msgspec.json.encode if self._is_json else msgspec.msgpack.encode
        self._outbox.put([*self._envelope, encode(header), payload])


def _open_signal() -> tuple[int, int]:
    """Return descriptors to poll and to write: one eventfd where there are any, else a pipe."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return descriptor, descriptor
    return os.pipe()
