"""What every answer of the first API carries: whether it went well, in `NV-Status`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from edgert.errors import (
    EdgertError,
    RequestError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from edgert.serve.first_api.messages import MESSAGE_CLASSES, encoded, one_line
from edgert.serve.first_api.schema import ENUMS
from edgert.serve.http.exchange import Exchange
from edgert.serve.http.message import BINARY, TEXT, Answer, Buffer, status_of
from edgert.serve.http.site import Later
from edgert.serve.shared_memory import TakenError

SERVER = "edgert"
MAX_MESSAGE = 1000  # characters of an error; a header has to be read whole
_STATUS = MESSAGE_CLASSES["RequestStatus"]
_CODES = (  # the first class that fits
    (UnknownModelError, "NOT_FOUND"),
    (UnavailableError, "UNAVAILABLE"),
    (UnsupportedError, "UNSUPPORTED"),
    (TakenError, "ALREADY_EXISTS"),
    (RequestError, "INVALID_ARG"),
)
_numbers = itertools.count(1)  # of requests


def success(
    body: tuple[Buffer, ...] = (), *, is_binary: bool = False, headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """Return an answer that says that all went well."""
    return Answer(200, body, BINARY if is_binary else TEXT, (_status_header("SUCCESS"), *headers))


def failure(error: EdgertError) -> Answer:
    """Return an answer without a body that says what went wrong."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "INTERNAL")
    return Answer(status_of(error), (), TEXT, (_status_header(code, str(error)[:MAX_MESSAGE]),))


def message_answer(message: Any, exchange: Exchange) -> Answer:
    """Return a message in the form that the request asks for."""
    is_binary = wants_binary(exchange)
    return success((encoded(message, is_binary=is_binary),), is_binary=is_binary)


def wants_binary(exchange: Exchange) -> bool:
    """Tell whether messages in the body are wanted as bytes rather than as text."""
    return "binary" in parse_qs(exchange.head.query).get("format", ())


def told(run: Callable[..., Later | None]) -> Callable[..., Later | None]:
    """Return a job whose errors, also in what is left for later, are answered in the first API's way."""

    def attempt(exchange: Exchange, **names: Any) -> Later | None:
        later: Later | None = None
        with _told_of_errors(exchange):
            later = run(exchange, **names)
        return later and functools.partial(attempt_later, exchange, later)

    def attempt_later(exchange: Exchange, later: Later) -> None:
        with _told_of_errors(exchange):
            later()

    return attempt


@contextmanager
def _told_of_errors(exchange: Exchange) -> Iterator[None]:
    try:
        yield
    except EdgertError as error:
        exchange.reply(failure(error))


def _status_header(code: str, text: str = "") -> tuple[str, str]:
    number = ENUMS["RequestStatusCode"].index(code)
    return "NV-Status", one_line(_STATUS(code=number, msg=text, server_id=SERVER, request_id=next(_numbers)))
