"""Calls with one request and one response that no lane has a part in."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from edgert.errors import RequestError
from edgert.serve.bodies import TooLargeError
from edgert.serve.grpc.transport.arriving import Message
from edgert.serve.grpc.transport.faults import FaultsTo
from edgert.serve.grpc.transport.rpc import Rpc
from edgert.serve.grpc.transport.status import ForbiddenError, forbidden
from edgert.serve.mailbox import Mailbox

MAX_SHORT_BYTES = 1 << 16  # of a request that is read on the loop


class Call(msgspec.Struct, frozen=True):
    """What answers a method: `run` makes a response of a request, or raises EdgertError."""

    request: Any  # the message's class
    run: Callable[[Any], Any]
    is_slow: bool = False  # may block
    is_control: bool = False  # changes the server
    is_local: bool = False  # only for clients on this machine


class CallAnswerer:
    """Answers such calls."""

    def __init__(self, executor: Executor, mailbox: Mailbox, *, is_control_allowed: bool) -> None:
        """`executor` runs what may block."""
        self._executor = executor
        self._mailbox = mailbox
        self._is_control_allowed = is_control_allowed

    def answer(self, call: Call, rpc: Rpc, message: Message) -> None:
        """Answer one call. Raises EdgertError."""
        if call.is_control and not self._is_control_allowed:
            raise forbidden()
        if call.is_local and not rpc.is_local:
            raise ForbiddenError("shared memory is for clients on the server's machine")
        if call.is_slow:
            self._executor.submit(self._answer_later, call, rpc, message)
        else:
            rpc.reply(call.run(parse_short(call.request, message)).SerializeToString())

    def _answer_later(self, call: Call, rpc: Rpc, message: Message) -> None:
        """Run on another thread."""
        with FaultsTo(partial(self._mailbox.post, rpc.fail)):
            response = call.run(_parse(call.request, message))
            self._mailbox.post(rpc.reply, response.SerializeToString())


def parse_short(kind: Any, message: Message) -> Any:
    """Return the message of a class, on the loop. Raises RequestError, TooLargeError."""
    if len(message) > MAX_SHORT_BYTES:
        raise TooLargeError(f"Received message larger than max ({len(message)} vs. {MAX_SHORT_BYTES})")
    return _parse(kind, message)


def _parse(kind: Any, message: Message) -> Any:
    """Return the message of a class. Raises RequestError."""
    try:
        return kind.FromString(bytes(message))
    except DecodeError:
        raise RequestError("Unable to parse request") from None
