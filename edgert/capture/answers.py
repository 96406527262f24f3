"""Answers to requests: written by any thread, sent by the source's own."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import ClassVar

import msgspec

from edgert.capture.unforeseen import unforeseen_as
from edgert.errors import ClosedError, EdgertError, ModelError
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


class Answer(msgspec.Struct, gc=False, eq=False):
    """One answer, encoded only when it is sent."""

    refusals_count_as: ClassVar[str] = ""  # what refusals are counted as lost by; empty: they say enough
    envelope: list[bytes]
    header: AnswerHeader
    is_json: bool
    result: Result | None = None  # None: a refusal

    def message(self, encode: Encode) -> list[bytes]:
        """Return the parts to send. Raises ModelError if the result cannot be encoded."""
        payload = b""
        if self.result is not None:
            with unforeseen_as(ModelError, f"A result of model {self.result.model} cannot be encoded"):
                payload = encode(self.result)
        encode_header = msgspec.json.encode if self.is_json else msgspec.msgpack.encode
        return [*self.envelope, encode_header(self.header), payload]

    def refusal(self, error: EdgertError) -> Answer:
        """Return the answer that says why this one cannot be given."""
        header = msgspec.structs.replace(self.header, status=error.status, message=str(error))
        return msgspec.structs.replace(self, header=header, result=None)

    @property
    def is_refusal(self) -> bool:
        """Whether it tells of an error."""
        return self.header.status != "ok"


class Outbox:
    """Answers on their way to the one thread that may touch the socket.

    `descriptor` is readable while answers wait, so that the thread can poll for them.
    """

    live: ClassVar[LiveCount] = LiveCount("outbox")

    def __init__(self) -> None:
        self._answers: deque[Answer] = deque()
        self._lock = threading.Lock()  # also keeps `put` off descriptors that were closed
        self._is_open = True
        self.descriptor, self._writing = _open_signal()
        self.live.opened()

    def put(self, answer: Answer) -> bool:
        """Queue an answer and wake the thread; False if the socket is gone. Any thread."""
        with self._lock:
            if self._is_open:
                self._answers.append(answer)
                if len(self._answers) == 1:
                    os.write(self._writing, ONE)
            return self._is_open

    def take(self) -> list[Answer]:
        """Return what waits, oldest first. Never blocks."""
        if not self._answers:
            return []
        with self._lock:
            answers = list(self._answers)
            self._answers.clear()
            os.read(self.descriptor, len(ONE))
        return answers

    def close(self) -> list[Answer]:
        """Refuse further answers, close the descriptors, and return what still waits."""
        with self._lock:
            self._is_open = False
            for descriptor in {self.descriptor, self._writing}:
                os.close(descriptor)
        self.live.closed()
        return list(self._answers)


class Requester:
    """Where one request came from: a `Reply` that answers it once, with an Answer of a `kind`."""

    __slots__ = ("_id", "_is_json", "_kind", "_model", "_once", "_outbox", "_source", "envelope")

    def __init__(
        self, outbox: Outbox, source: str, envelope: list[bytes], kind: type[Answer] = Answer
    ) -> None:
        self.envelope = envelope  # the parts that go before an answer's own
        self._kind = kind
        self._outbox = outbox
        self._source = source
        self._once = threading.Lock()
        self._id: str | int | None = None
        self._model: str | None = None
        self._is_json = True

    def identify(self, request_id: str | int | None, model: str | None, *, is_json: bool) -> None:
        """Say what the request's header told, so that the answer can repeat it."""
        self._id, self._model, self._is_json = request_id, model, is_json

    def answer(self, result: Result) -> None:
        """Queue the result, to be encoded when it is sent. Raises ClosedError if answered before."""
        self._send(AnswerHeader(1, self._id, "ok", "", result.source, result.seq, result.model), result)

    def refuse(self, error: EdgertError) -> None:
        """Send the error's status and message. Raises ClosedError if an answer was sent before."""
        header = AnswerHeader(1, self._id, error.status, str(error), self._source, None, self._model)
        self._send(header, None)

    def put(self, answer: Answer) -> None:
        """Queue an answer of the caller's own. Raises ClosedError if one was sent before."""
        if not self._once.acquire(blocking=False):
            raise ClosedError("This request was answered before.")
        self._outbox.put(answer)

    def _send(self, header: AnswerHeader, result: Result | None) -> None:
        self.put(self._kind(self.envelope, header, self._is_json, result))


def _open_signal() -> tuple[int, int]:
    """Return descriptors to poll and to write: one eventfd where there are any, else a pipe."""
    if hasattr(os, "eventfd"):
        descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return descriptor, descriptor
    return os.pipe()
